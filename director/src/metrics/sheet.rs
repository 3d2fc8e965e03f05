//! Several families about the same things, filled row by row.

use prometheus::proto::Metric;

use super::family::{Family, Kind, pop_label, push_label, row};

/// One family of a [`Sheet`].
#[derive(Debug)]
pub(super) struct Measure<N: 'static> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    /// The samples that each row has of it.
    pub(super) parts: &'static [Part<N>],
}

/// A label besides those of the row, and a number of the row.
pub(super) type Part<N> = (Option<(&'static str, &'static str)>, fn(&N) -> f64);

/// What a row is called by, and its numbers.
pub(super) type Row<N> = (Vec<(&'static str, String)>, N);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sheet<N: 'static> {
    families: Vec<(Family, &'static [Part<N>])>,
    /// The labels that parts have, each once.
    variants: Vec<Option<(&'static str, &'static str)>>,
}

impl<N> Sheet<N> {
    pub(super) fn new(measures: &'static [Measure<N>]) -> Sheet<N> {
        let mut variants = Vec::new();
        for (label, _) in measures.iter().flat_map(|measure| measure.parts) {
            if !variants.contains(label) {
                variants.push(*label);
            }
        }
        let families = measures.iter().map(|measure| {
            let family = Family::new(measure.name, measure.help, measure.kind);
            (family, measure.parts)
        });
        Sheet {
            families: families.collect(),
            variants,
        }
    }

    /// Appends these rows to all families.
    pub(super) fn add(&mut self, rows: Vec<Row<N>>) {
        let rows = rows.into_iter();
        let rows = rows.map(|(labels, numbers)| (row(labels), numbers));
        let (mut samples, numbers): (Vec<Metric>, Vec<N>) = rows.unzip();
        for variant in &self.variants {
            for sample in &mut samples {
                if let Some((name, value)) = variant {
                    push_label(sample, name, value);
                }
            }
            for (family, parts) in &mut self.families {
                for (_, value) in parts.iter().filter(|(label, _)| label == variant) {
                    family.add(&mut samples, |place| value(&numbers[place]));
                }
            }
            if variant.is_some() {
                samples.iter_mut().for_each(pop_label);
            }
        }
    }

    pub(super) fn into_texts(self) -> impl Iterator<Item = Vec<u8>> {
        let families = self.families.into_iter();
        families.map(|(family, _)| family.into_text())
    }
}

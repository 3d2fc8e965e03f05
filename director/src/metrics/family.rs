//! A family of samples under one name, whose text comes in pieces.
//!
//! The encoder writes a family whole, with its help and type in front. A family of ten thousand servers is
//! more than one turn of the loop may take, so it is encoded piece by piece, and what is in front of all
//! pieces but the first is left out.

use std::io::{self, Write};

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Family {
    /// Without samples, but while a piece is encoded.
    head: MetricFamily,
    text: Vec<u8>,
    /// Bytes of help and type.
    front: usize,
}

/// What a family's value may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, or begins anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Family {
    /// One without samples, which has no text.
    pub(super) fn new(name: &str, help: &str, kind: Kind) -> Family {
        let mut head = MetricFamily::default();
        head.set_name(name.to_owned());
        head.set_help(help.to_owned());
        head.set_field_type(match kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        Family {
            head,
            text: Vec::new(),
            front: 0,
        }
    }

    /// Appends a sample for each of `rows`, whose labels are theirs, with the value of its place. The rows can
    /// be used again for the next family: their labels are the dearest part of them.
    pub(super) fn add(&mut self, rows: &mut Vec<Metric>, value: impl Fn(usize) -> f64) {
        if rows.is_empty() {
            // The encoder takes this for a fault.
            return;
        }
        let counts = self.head.get_field_type() == MetricType::COUNTER;
        for (place, row) in rows.iter_mut().enumerate() {
            if counts {
                let mut counter = Counter::default();
                counter.set_value(value(place));
                row.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value(place));
                row.set_gauge(gauge);
            }
        }
        self.head.set_metric(std::mem::take(rows));
        self.encode();
        *rows = self.head.take_metric();
    }

    fn encode(&mut self) {
        let mut behind = Behind {
            skip: self.front,
            text: &mut self.text,
        };
        let encoded = TextEncoder::new().encode(std::slice::from_ref(&self.head), &mut behind);
        // It has a name and samples, and memory takes everything.
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        if self.front == 0 {
            let lines = self.text.split_inclusive(|&byte| byte == b'\n');
            self.front = lines.take(HEAD_LINES).map(<[u8]>::len).sum();
        }
    }

    /// What has been added.
    pub(super) fn into_text(self) -> Vec<u8> {
        self.text
    }
}

/// A sample's labels, in this order.
pub(super) fn row<'a>(labels: impl IntoIterator<Item = (&'a str, String)>) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| pair(name, value));
    Metric::from_label(pairs.collect())
}

/// One label more, behind the others.
pub(super) fn push_label(row: &mut Metric, name: &str, value: &str) {
    let mut labels = row.take_label();
    labels.push(pair(name, value.to_owned()));
    row.set_label(labels);
}

/// Without the last one.
pub(super) fn pop_label(row: &mut Metric) {
    let mut labels = row.take_label();
    labels.pop();
    row.set_label(labels);
}

fn pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

/// The text of families that are there as a whole.
pub(super) fn encode(families: &[MetricFamily], text: &mut Vec<u8>) {
    let encoded = TextEncoder::new().encode(families, text);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
}

/// Takes what is written but for what is in front.
struct Behind<'a> {
    skip: usize,
    text: &'a mut Vec<u8>,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.text.extend_from_slice(&bytes[skipped..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Help and type.
const HEAD_LINES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_family() {
        let mut family = Family::new("lvs_packets_total", "Packets.", Kind::Counter);
        family.add(&mut Vec::new(), |_| 0.0);
        let mut rows = vec![
            row([("service", "TCP 192.0.2.1:80".to_owned())]),
            row([("service", "a\"b\\c\nd".to_owned())]),
        ];
        family.add(&mut rows, |place| place as f64);
        let mut last = vec![row([])];
        family.add(&mut last, |_| 1e15);
        assert_eq!(rows.len(), 2, "the rows come back");
        let text = String::from_utf8(family.into_text()).unwrap();
        let expected = "\
# HELP lvs_packets_total Packets.
# TYPE lvs_packets_total counter
lvs_packets_total{service=\"TCP 192.0.2.1:80\"} 0
lvs_packets_total{service=\"a\\\"b\\\\c\\nd\"} 1
lvs_packets_total 1000000000000000
";
        assert_eq!(text, expected);
    }

    #[test]
    fn nothing_added_is_no_text() {
        let family = Family::new("lvs_backend_up", "Up.", Kind::Gauge);
        assert!(family.into_text().is_empty());
    }
}

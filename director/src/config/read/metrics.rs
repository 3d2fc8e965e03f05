//! `[metrics]`

use shared::config::{Notes, Section, Seen, word};

use super::socket_address;
use crate::config::{Metrics, words};
use crate::metrics::Options;
use crate::metrics::labels::{BackendLabel, BackendLabels};

/// What is shown to Prometheus, and where.
pub(super) fn metrics(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Metrics {
    let listen = section.text(notes, "listen");
    let listen = listen.and_then(|text| socket_address(notes, text, Metrics::USUAL));
    Metrics {
        listen,
        options: Options {
            node_exporter_names: section.flag(notes, "node_exporter_names").unwrap_or(false),
            backend_labels: backend_labels(notes, section),
        },
    }
}

/// `backend_labels = ["service"]`; an empty list keeps none.
fn backend_labels(notes: &mut Notes<'_>, section: Section<'_, '_>) -> BackendLabels {
    if section.lacks("backend_labels") {
        return BackendLabels::default();
    }
    let mut seen = Seen::default();
    let mut labels = Vec::new();
    for text in section.texts(notes, "backend_labels") {
        let name = word(notes, "label of real servers", text, &words::BACKEND_LABELS);
        let Some(label) = name.and_then(BackendLabel::by_name) else {
            continue;
        };
        if seen.first(
            notes,
            text.at,
            format_args!("label {:?}", text.value),
            label,
        ) {
            labels.push(label);
        }
    }
    labels.into_iter().collect()
}

//! Real servers that die and return at random under load, for a minute.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lane::Middle;
use super::report::Row;
use crate::deaths::{Method, run};

/// All rows of this kind. A run is long, so there is one, whatever the repetitions.
///
/// # Panics
/// If anything is sent to a server after it was declared down, or fails while no server was dead.
pub fn measure(_repeat: usize) -> Vec<Row> {
    let title = |what| format!("real servers that die at random: {what}");
    let mut rows = [
        ("requests", "in a minute"),
        ("requests that failed", "in a minute"),
        (
            "of them though no server was dead and not yet down",
            "in a minute",
        ),
        ("deaths", "in a minute"),
        ("connections begun to servers that were down", "in a minute"),
        ("from a death to its verdict, longest", "ms"),
    ]
    .map(|(what, unit)| Row::new(title(what), unit, PLACEMENT));
    for (middle, method) in [(Middle::Nat, Method::Nat), (Middle::Direct, Method::Direct)] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seed = now.expect("it is later than 1970").as_secs();
        let story = run(method, seed, LENGTH);
        println!("{}: {}\n", middle.name(), story.text());
        story.judge();
        let longest = story.detections().into_iter().map(|(_, time)| time).max();
        let figures = [
            story.requests() as f64,
            story.failed() as f64,
            story.failed_outside() as f64,
            story.deaths() as f64,
            story.sent_while_down().0 as f64,
            longest.unwrap_or_default().as_secs_f64() * 1e3,
        ];
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.add(middle, figure);
        }
    }
    rows.into()
}

const LENGTH: Duration = Duration::from_secs(60);
const PLACEMENT: &str = "4 servers, 8 clients; everything anywhere";

//! What is done to the host, told step by step.

use std::fmt::Display;

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// Somebody who wants to know of each step.
    Steps,
    /// A journal, which wants to know what has changed.
    Changes,
}

impl Log {
    /// Something was changed.
    pub(crate) fn did(self, what: impl Display) {
        println!("{what}");
    }

    /// Something was right already.
    pub(crate) fn was(self, what: impl Display) {
        if self == Log::Steps {
            println!("{what}");
        }
    }
}

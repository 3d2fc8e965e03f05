//! The init files: SysV scripts under each shell, systemd's units, and what both rely on.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod machine;
mod scripts;
mod units;

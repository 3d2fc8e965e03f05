//! The init files: SysV scripts under each shell, systemd's units, and what both rely on.

mod machine;
mod scripts;
mod units;

//! Vectors of every scheduler.

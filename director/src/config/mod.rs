//! The configuration file: model, TOML, checks, difference between two of them.

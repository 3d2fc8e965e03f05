//! The namespace laboratory, the demo and the end-to-end tests.

//! Ring, socket and capture together, between network namespaces that the tests make themselves.

mod bench;
mod bulk;
mod capture;
mod ring;
mod send;

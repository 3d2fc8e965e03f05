//! director

fn main() {}

//! rsagent

fn main() {}

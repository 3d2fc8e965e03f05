//! lvsadm

fn main() {}

//! `-h` and `-v`.

use crate::control::command::Dialect;

/// What `-v` prints, and the first line of the help. Scripts look for ipvsadm's version, so it is
/// ipvsadm's, whatever the program is called.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// What `-h` prints; `program` is the program's name as it was called.
pub fn help(program: &str) -> String {
    let beyond = match Dialect::of(program) {
        Dialect::Ipvsadm => "",
        Dialect::Lvsadm => BEYOND,
    };
    format!(
        "{VERSION}{}",
        (USAGE.to_owned() + beyond).replace("PROGRAM", program)
    )
}

/// What ipvsadm has not.
const BEYOND: &str = include_str!("usage_beyond.txt");

const USAGE: &str = include_str!("usage.txt");

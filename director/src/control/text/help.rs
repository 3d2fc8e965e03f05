//! `-h` and `-v`.

/// What `-v` prints, and the first line of the help. Scripts look for ipvsadm's version, so it is
/// ipvsadm's, whatever the program is called.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// What `-h` prints; `program` is the program's name as it was called.
pub fn help(program: &str) -> String {
    format!("{VERSION}{}", USAGE.replace("PROGRAM", program))
}

const USAGE: &str = include_str!("usage.txt");

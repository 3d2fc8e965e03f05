//! What both programs do to the machine they run on: netlink and sysctls.

pub mod netlink;

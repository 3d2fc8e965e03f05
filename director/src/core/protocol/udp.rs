//! UDP as IPVS sees it (`ip_vs_proto_udp.c`): one state, restarted by every datagram of either
//! direction, never active.

/// As ipvsadm prints the state.
pub const STATE_NAME: &str = "UDP";

/// Seconds a connection may be idle, unless `--set` says otherwise.
pub const TIMEOUT_SECS: u32 = 300;

//! The words of the file: what each section has, and what comes later.

use shared::config::{Keys, Words};

use crate::core::sysctl::{LATER, NAMES};
use crate::metrics::labels::BackendLabel;

pub(super) const FILE: Keys = Keys {
    table: "the file",
    known: &[
        "director",
        "sysctl",
        "timeouts",
        "connections",
        "deny",
        "mark",
        "vip",
        "service",
        "fullnat",
        "agents",
        "metrics",
    ],
    later: &["vrrp", "sync"],
};

pub(super) const DIRECTOR: Keys = Keys {
    table: "[director]",
    known: &["interfaces", "rules", "local_clients"],
    later: &[],
};

pub(super) const SYSCTL: Keys = Keys {
    table: "[sysctl]",
    known: &NAMES,
    later: LATER,
};

pub(super) const TIMEOUTS: Keys = Keys {
    table: "[timeouts]",
    known: &["tcp", "tcp_fin", "udp"],
    later: &[],
};

pub(super) const CONNECTIONS: Keys = Keys {
    table: "[connections]",
    known: &["table_bits", "max", "half_open"],
    later: &[],
};

pub(super) const SERVICE_TIMEOUTS: Keys = Keys {
    table: "[service.timeouts]",
    known: &["tcp", "tcp_fin", "udp"],
    later: &[],
};

pub(super) const FULLNAT: Keys = Keys {
    table: "[fullnat]",
    known: &["local_addresses"],
    later: &[],
};

pub(super) const DENY: Keys = Keys {
    table: "[[deny]]",
    known: &["source", "service", "protocol"],
    later: &[],
};

pub(super) const MARK: Keys = Keys {
    table: "[[mark]]",
    known: &["mark", "protocol", "address", "ports", "source"],
    later: &[],
};

pub(super) const VIP: Keys = Keys {
    table: "[[vip]]",
    known: &["address", "interface", "label"],
    later: &[],
};

pub(super) const SERVICE: Keys = Keys {
    table: "[[service]]",
    known: &[
        "address",
        "protocol",
        "fwmark",
        "family",
        "scheduler",
        "flags",
        "persistence",
        "netmask",
        "persistence_engine",
        "server_gone",
        "slow_start",
        "timeouts",
        "proxy_protocol",
        "toa",
        "set_mss",
        "clamp_mss_to_pmtu",
        "check",
        "quorum",
        "hysteresis",
        "sorry_server",
        "panic_threshold",
        "quorum_up",
        "quorum_down",
        "notify_up",
        "notify_down",
        "omega",
        "inhibit_on_failure",
        "server",
    ],
    later: &[],
};

pub(super) const SORRY_SERVER: Keys = Keys {
    table: "sorry_server",
    known: &["address", "forward"],
    later: &[],
};

pub(super) const ENGINES: Words = Words {
    known: &["sip"],
    later: &[],
};

pub(super) const SORRY_FORWARDS: Words = Words {
    known: &["nat", "dr", "tun", "fullnat", "local"],
    later: &[],
};

pub(super) const SERVER: Keys = Keys {
    table: "[[service.server]]",
    known: &[
        "address",
        "forward",
        "weight",
        "upper_threshold",
        "lower_threshold",
        "tunnel",
        "tunnel_port",
        "tunnel_checksum",
        "check",
        "inhibit_on_failure",
        "notify_up",
        "notify_down",
    ],
    later: &[],
};

pub(super) const AGENTS: Keys = Keys {
    table: "[agents]",
    known: &["listen", "key_file", "insecure"],
    later: &[],
};

pub(super) const METRICS: Keys = Keys {
    table: "[metrics]",
    known: &["listen", "node_exporter_names", "backend_labels"],
    later: &[],
};

pub(super) const SERVICE_CHECK: Keys = Keys {
    table: "[service.check]",
    known: CHECK_KEYS,
    later: &[],
};

pub(super) const SERVER_CHECK: Keys = Keys {
    table: "[service.server.check]",
    known: CHECK_KEYS,
    later: &[],
};

pub(super) const CHECK_URL: Keys = Keys {
    table: "an entry of `urls'",
    known: &[
        "path",
        "host",
        "status",
        "digest",
        "sha256",
        "regex",
        "regex_no_match",
    ],
    later: &[],
};

const CHECK_KEYS: &[&str] = &[
    "type",
    "interval",
    "timeout",
    "retry",
    "delay_before_retry",
    "warmup",
    "alpha",
    "address",
    "port",
    "bind",
    "path",
    "host",
    "status",
    "digest",
    "sha256",
    "regex",
    "regex_no_match",
    "urls",
    "http_version",
    "verify",
    "ca_file",
    "sni",
    "payload",
    "require_reply",
    "min_reply_length",
    "max_reply_length",
    "name",
    "query",
    "helo",
    "command",
    "dynamic",
    "missed",
    "weight",
    "least_weight",
    "most_weight",
];

pub(super) const HTTP_VERSIONS: Words = Words {
    known: &["1.0", "1.1"],
    later: &[],
};

pub(super) const DNS_TYPES: Words = Words {
    known: &[
        "A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY",
    ],
    later: &[],
};

pub(super) const BACKEND_LABELS: Words = Words {
    known: &BackendLabel::NAMES,
    later: &[],
};

pub(super) const SCHEDULERS: Words = Words {
    known: &[
        "rr", "wrr", "lc", "wlc", "sed", "nq", "lblc", "lblcr", "dh", "sh", "mh", "fo", "ovf",
        "twos", "none",
    ],
    later: &[],
};

pub(super) const SERVER_GONE: Words = Words {
    known: &["keep", "reschedule", "reset", "auto"],
    later: &[],
};

pub(super) const FAMILIES: Words = Words {
    known: &["ipv4", "ipv6"],
    later: &[],
};

pub(super) const PROTOCOLS: Words = Words {
    known: &["tcp", "udp", "sctp"],
    later: &[],
};

pub(super) const FORWARDS: Words = Words {
    known: &["dr", "nat", "local", "tun", "fullnat"],
    later: &[],
};

pub(super) const TUNNELS: Words = Words {
    known: &["ipip", "gue", "gre"],
    later: &[],
};

pub(super) const TUNNEL_CHECKSUMS: Words = Words {
    known: &["none", "full", "remote"],
    later: &[],
};

pub(super) const CHECKS: Words = Words {
    known: &[
        "tcp", "http", "https", "udp", "dns", "smtp", "ping", "script", "agent",
    ],
    later: &[],
};

pub(super) const FLAGS: Words = Words {
    known: &[
        "sh-fallback",
        "sh-port",
        "mh-fallback",
        "mh-port",
        "flag-1",
        "flag-2",
        "flag-3",
        "ops",
    ],
    later: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::OperationError;
    use crate::core::scheduler::by_name;
    use crate::core::sysctl::Sysctl;

    #[test]
    fn the_core_has_the_schedulers_that_the_file_may_name() {
        for name in SCHEDULERS.known {
            assert!(by_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_core_has_the_switches_that_the_file_may_name() {
        for name in SYSCTL.known {
            assert!(Sysctl::default().set(name, 0).is_ok(), "{name}");
        }
        for name in SYSCTL.later {
            let refused = Sysctl::default().set(name, 0);
            assert!(matches!(refused, Err(OperationError::NotYet(_))), "{name}");
        }
    }
}

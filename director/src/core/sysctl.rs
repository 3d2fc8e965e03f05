//! The switches of `net.ipv4.vs` (`ip_vs_ctl.c`), with the kernel's names, ranges and defaults.

use std::time::Duration;

use super::operation::OperationError;
use super::protocol::Sloppy;
use super::scheduler::Expiration;

/// The switches that are there. The kernel takes any number for most of them; what is not 0 is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// Mode 3 of `drop_packet`: one packet of so many.
    pub am_droprate: i32,
    /// Pages of free memory below which the automatic defences are on.
    pub amemthresh: i32,
    /// A connection of a service by mark that has no server for it goes around them.
    pub cache_bypass: i32,
    /// 0, a SYN never makes a new connection of an old one; otherwise it does in TIME_WAIT and CLOSE, and
    /// with 2 set in FIN_WAIT too if the answers do not pass.
    pub conn_reuse_mode: i32,
    /// Whether connections that have hardly been used go: [`Mode`].
    pub drop_entry: i32,
    /// Whether packets that would be scheduled are dropped: [`Mode`].
    pub drop_packet: i32,
    /// Connections of a removed server end (with the next packet at the latest), else their clients'
    /// packets are dropped until they time out.
    pub expire_nodest_conn: i32,
    /// Clients do not return to a server of weight 0 that their template remembers.
    pub expire_quiescent_template: i32,
    /// Seconds that `lblc` remembers an idle destination.
    pub lblc_expiration: i32,
    /// Seconds that `lblcr` remembers an idle destination, or a member of its set that is too much.
    pub lblcr_expiration: i32,
    /// Whether a real server behind NAT is told that what it sent belongs to no connection.
    pub nat_icmp_send: i32,
    /// Whether a packet that is too big for a tunnel and not to be fragmented is refused and its sender told
    /// so, and tunnelled packets are not to be fragmented either; else they are cut.
    pub pmtu_disc: i32,
    /// Whether counters that are listed, and rates, go on.
    pub run_estimation: i32,
    /// Whether an ICMP error about a connection that is not known makes it known.
    pub schedule_icmp: i32,
    /// Whether the state of a TCP connection believes clients less: [`Mode`].
    pub secure_tcp: i32,
    /// Any SCTP packet but ABORT may be scheduled, not only INIT.
    pub sloppy_sctp: i32,
    /// Any TCP segment but RST may be scheduled, not only SYN.
    pub sloppy_tcp: i32,
}

/// How a defence is switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 0
    Off,
    /// 1 and 2: on while memory is short. It shows as 2 while it is on.
    Automatic,
    /// 3
    On,
}

impl Mode {
    /// Of a value that was checked when it was set.
    pub const fn of(value: i32) -> Mode {
        match value {
            0 => Mode::Off,
            3 => Mode::On,
            _ => Mode::Automatic,
        }
    }
}

impl Default for Sysctl {
    fn default() -> Sysctl {
        Sysctl {
            am_droprate: 10,
            amemthresh: 1024,
            cache_bypass: 0,
            conn_reuse_mode: 1,
            drop_entry: 0,
            drop_packet: 0,
            expire_nodest_conn: 0,
            expire_quiescent_template: 0,
            lblc_expiration: DAY_SECS,
            lblcr_expiration: DAY_SECS,
            nat_icmp_send: 0,
            pmtu_disc: 1,
            run_estimation: 1,
            schedule_icmp: 0,
            secure_tcp: 0,
            sloppy_sctp: 0,
            sloppy_tcp: 0,
        }
    }
}

impl Sysctl {
    /// All of them by name.
    pub fn all(mut self) -> impl Iterator<Item = (&'static str, i32)> {
        TABLE
            .iter()
            .map(move |(name, field)| (*name, *field(&mut self)))
    }

    /// Sets one, as writing to its file does.
    ///
    /// # Errors
    /// There is no such switch, not yet or not here, or it does not take this value.
    pub fn set(&mut self, name: &str, value: i32) -> Result<(), OperationError> {
        let Some((_, field)) = TABLE.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(name));
        };
        if DEFENCES.contains(&name) && !(0..=3).contains(&value) {
            return Err(OperationError::Invalid(format!(
                "{name} is 0 (off), 1 (automatic), 2 (automatic, now on) or 3 (on), not {value}"
            )));
        }
        *field(self) = value;
        Ok(())
    }

    /// Whose packets begin a connection, whatever they are.
    pub fn sloppy(&self) -> Sloppy {
        Sloppy {
            tcp: self.sloppy_tcp != 0,
            sctp: self.sloppy_sctp != 0,
        }
    }

    /// For the locality-based schedulers.
    pub fn expiration(&self) -> Expiration {
        let seconds = |secs: i32| Duration::from_secs(u64::try_from(secs).unwrap_or(0));
        Expiration {
            lblc: seconds(self.lblc_expiration),
            lblcr: seconds(self.lblcr_expiration),
        }
    }
}

fn unknown(name: &str) -> OperationError {
    if LATER.contains(&name) {
        return OperationError::NotYet(format!("sysctl {name}"));
    }
    match MEANINGLESS.iter().find(|(known, _)| *known == name) {
        Some((_, reason)) => {
            OperationError::Invalid(format!("{name} means nothing here: {reason}"))
        }
        None => OperationError::Invalid(format!("net.ipv4.vs has no {name}")),
    }
}

/// Where a switch is kept.
type Field = fn(&mut Sysctl) -> &mut i32;

const TABLE: [(&str, Field); 17] = [
    ("am_droprate", |s| &mut s.am_droprate),
    ("amemthresh", |s| &mut s.amemthresh),
    ("cache_bypass", |s| &mut s.cache_bypass),
    ("conn_reuse_mode", |s| &mut s.conn_reuse_mode),
    ("drop_entry", |s| &mut s.drop_entry),
    ("drop_packet", |s| &mut s.drop_packet),
    ("expire_nodest_conn", |s| &mut s.expire_nodest_conn),
    ("expire_quiescent_template", |s| {
        &mut s.expire_quiescent_template
    }),
    ("lblc_expiration", |s| &mut s.lblc_expiration),
    ("lblcr_expiration", |s| &mut s.lblcr_expiration),
    ("nat_icmp_send", |s| &mut s.nat_icmp_send),
    ("pmtu_disc", |s| &mut s.pmtu_disc),
    ("run_estimation", |s| &mut s.run_estimation),
    ("schedule_icmp", |s| &mut s.schedule_icmp),
    ("secure_tcp", |s| &mut s.secure_tcp),
    ("sloppy_sctp", |s| &mut s.sloppy_sctp),
    ("sloppy_tcp", |s| &mut s.sloppy_tcp),
];

/// The names of those that are there.
pub const NAMES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TABLE[at].0;
        at += 1;
    }
    names
};

/// Those that take a [`Mode`].
const DEFENCES: [&str; 3] = ["drop_entry", "drop_packet", "secure_tcp"];

/// Those of the kernel that are not there yet.
pub const LATER: &[&str] = &[
    "backup_only",
    "sync_persist_mode",
    "sync_ports",
    "sync_qlen_max",
    "sync_refresh_period",
    "sync_retries",
    "sync_sock_size",
    "sync_threshold",
    "sync_version",
];

const MEANINGLESS: &[(&str, &str)] = &[
    ("conn_lfactor", "the table grows by itself"),
    ("conn_max", "[connections] max says how many there may be"),
    (
        "conntrack",
        "netfilter never sees what the director forwards",
    ),
    ("debug_level", "RUST_LOG says what is logged"),
    ("est_cpulist", "there are no estimator threads"),
    ("est_nice", "there are no estimator threads"),
    ("ignore_tunneled", "no hook comes after the director"),
    (
        "snat_reroute",
        "replies are always routed by their new source",
    ),
    ("svc_lfactor", "the table grows by itself"),
];

const DAY_SECS: i32 = 86400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_what_the_kernels_take() {
        let mut sysctl = Sysctl::default();
        for (name, default) in Sysctl::default().all() {
            let mut takes = |value| {
                let took = sysctl.set(name, value).is_ok();
                assert!(
                    !took || sysctl.all().any(|now| now == (name, value)),
                    "{name}"
                );
                took
            };
            let any = !DEFENCES.contains(&name);
            assert_eq!(
                [-1, 2, 5, 1_000_000].map(&mut takes),
                [any, true, any, any],
                "{name}"
            );
            assert!(takes(default));
        }
        assert_eq!(sysctl, Sysctl::default());
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        let refused = |name| Sysctl::default().set(name, 1).unwrap_err().to_string();
        assert_eq!(
            refused("sync_version"),
            "sysctl sync_version is not there yet"
        );
        assert_eq!(
            refused("conntrack"),
            "conntrack means nothing here: netfilter never sees what the director forwards"
        );
        assert_eq!(refused("conntrac"), "net.ipv4.vs has no conntrac");
    }
}

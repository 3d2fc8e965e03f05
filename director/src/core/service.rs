//! Virtual services (`ip_vs_ctl.c`).

use std::net::IpAddr;

use shared::addr::{Addr, Protocol};

use super::arena::Id;
use super::guard::Guarded;
use super::operation::{
    Introduction, Netmask, OperationError, Persistence, SegmentSize, ServerGone, ServiceKey,
    ServiceSpec, TimeoutChange,
};
use super::protocol::Timeouts;
use super::scheduler::{self, Scheduler};
use super::server::ServerId;
use super::stats::{Counters, Estimator};

/// A service's number. Good as long as the service or one of its servers is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub(super) u32);

impl Id for ServiceId {
    fn new(number: u32) -> ServiceId {
        ServiceId(number)
    }

    fn number(self) -> u32 {
        self.0
    }
}

/// A virtual service: what clients talk to. A deleted one lives on, unseen, while servers of it wait
/// in the trash.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Service {
    pub(super) traffic: Counters,
    /// Of its connections, if they are its own. Packets touch this and the counters.
    pub(super) timeouts: Option<Box<Timeouts>>,
    pub(super) estimator: Estimator,
    pub(super) scheduler: Box<dyn Scheduler>,
    /// Newest first: every scheduler walks them in this order.
    pub(super) servers: Vec<ServerId>,
    pub(super) spec: ServiceSpec,
    /// Counts up with every service that is added.
    pub(super) serial: u64,
    pub(super) presence: Presence,
    /// What its servers must be together.
    pub(super) guarded: Option<Box<Guarded>>,
    /// Server objects that name it, configured or in the trash.
    pub(super) server_objects: u32,
    /// Connections of those.
    pub(super) connections: u32,
    /// Whether the key of its packets is held.
    pub(super) holds_key: bool,
    /// Whether that of all ports of its address is.
    pub(super) holds_all_ports: bool,
}

/// Whether a service is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It takes packets.
    Configured,
    /// Its connections go on.
    Deleted,
}

impl Service {
    /// A service without servers.
    pub fn new(spec: ServiceSpec, scheduler: Box<dyn Scheduler>, serial: u64) -> Service {
        Service {
            traffic: Counters::default(),
            estimator: Estimator::default(),
            scheduler,
            servers: Vec::new(),
            timeouts: None,
            spec,
            serial,
            presence: Presence::Configured,
            guarded: None,
            server_objects: 0,
            connections: 0,
            holds_key: false,
            holds_all_ports: false,
        }
    }

    /// Whether it is configured.
    pub fn is_configured(&self) -> bool {
        self.presence == Presence::Configured
    }

    /// Whether packets to it have to be taken from the wire.
    pub fn wants_key(&self) -> bool {
        self.is_configured() || self.connections > 0
    }

    /// Whether packets to all other ports have to be taken as well, and all replies of its servers: the data
    /// connections of a persistent FTP service go where its control connection is. Those that are there
    /// when it is no longer persistent go on.
    pub fn wants_all_ports(&self) -> bool {
        let ftp = matches!(
            self.spec.key,
            ServiceKey::Address {
                protocol: Protocol::TCP,
                port: FTP,
                ..
            }
        );
        let goes_on = self.holds_all_ports && self.connections > 0;
        ftp && self.wants_key() && (self.spec.persistence.is_some() || goes_on)
    }

    /// Takes over what its specification says about timeouts; the rest are the general ones.
    pub fn settle_timeouts(&mut self, general: &Timeouts) {
        let own = self.spec.beyond.timeouts;
        self.timeouts = (own != TimeoutChange::default()).then(|| {
            let mut timeouts = *general;
            timeouts.change(&own);
            Box::new(timeouts)
        });
    }

    /// Where the kernel lists it: by the bucket of its hash table, newest first.
    pub fn list_position(&self) -> (u32, std::cmp::Reverse<u64>) {
        let bucket = match self.spec.key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let folded = Addr::from(address).folded();
                let port = u32::from(port);
                (u32::from(protocol.0) ^ folded ^ (port >> 8) ^ port) % BUCKETS
            }
            // Their table is listed after the other.
            ServiceKey::Mark { mark, .. } => BUCKETS + mark % BUCKETS,
        };
        (bucket, std::cmp::Reverse(self.serial))
    }
}

/// What the kernel checks of a service that is to be added or edited, and what this director can not
/// yet do. Returns a scheduler in its initial state.
pub fn check(spec: &ServiceSpec) -> Result<Box<dyn Scheduler>, OperationError> {
    let scheduler = scheduler::by_name(&spec.scheduler);
    if let Err(error @ OperationError::NoSuchScheduler(_)) = scheduler {
        return Err(error);
    }
    if let Some(engine) = &spec.persistence_engine
        && engine != SIP
    {
        return Err(OperationError::NoSuchEngine(engine.clone()));
    }
    if let Some(Persistence {
        netmask: Netmask::V6(length),
        ..
    }) = spec.persistence
        && !(1..=128).contains(&length)
    {
        return Err(OperationError::Invalid(format!(
            "prefix length {length} of service {} is not in 1 to 128",
            spec.key
        )));
    }
    let not_yet = |what: &str| Err(OperationError::NotYet(format!("{what} ({})", spec.key)));
    match spec.key {
        ServiceKey::Mark { .. } => {}
        // One address would have to stand for as many hosts as there are links.
        ServiceKey::Address {
            address: IpAddr::V6(address),
            ..
        } if address.is_unicast_link_local() => {
            return not_yet("a service at a link-local address");
        }
        ServiceKey::Address {
            protocol: Protocol::TCP | Protocol::UDP | Protocol::SCTP,
            ..
        } => {}
        ServiceKey::Address { protocol, .. } => {
            return Err(OperationError::Invalid(format!(
                "service {} is of {protocol}, not of TCP, UDP or SCTP",
                spec.key
            )));
        }
    }
    let scheduler = scheduler?;
    check_beyond(spec, scheduler.as_ref())?;
    Ok(scheduler)
}

/// What goes beyond IPVS has to make sense.
fn check_beyond(spec: &ServiceSpec, scheduler: &dyn Scheduler) -> Result<(), OperationError> {
    let unfit = |what: String| Err(OperationError::Unfit(what));
    let tcp = matches!(
        spec.key,
        ServiceKey::Address {
            protocol: Protocol::TCP,
            ..
        }
    );
    if spec.beyond.server_gone == Some(ServerGone::Reset) && !tcp {
        return unfit(format!(
            "only TCP connections can be reset, and service {} is not TCP: write reschedule",
            spec.key
        ));
    }
    if spec.beyond.introduction == Introduction::ProxyProtocol && !tcp {
        return unfit(format!(
            "the PROXY protocol is spoken in front of a TCP connection's data, and service {} is not TCP",
            spec.key
        ));
    }
    let other = matches!(
        spec.key,
        ServiceKey::Address { protocol, .. } if protocol != Protocol::TCP
    );
    if spec.beyond.segment_size != SegmentSize::AsTold && other {
        return unfit(format!(
            "only TCP has a largest segment (MSS), and service {} is not TCP",
            spec.key
        ));
    }
    if let SegmentSize::AtMost(most) = spec.beyond.segment_size
        && !SegmentSize::RANGE.contains(&most)
    {
        return unfit(format!(
            "the largest segment of service {} is {most}, and not from {} to {} bytes",
            spec.key,
            SegmentSize::RANGE.start(),
            SegmentSize::RANGE.end()
        ));
    }
    if spec.beyond.slow_start_secs > 0 && !scheduler.shares_by_weight() {
        return unfit(format!(
            "slow start of service {} needs a scheduler that shares by weight (wrr, wlc, sed, nq, \
             twos), not {}",
            spec.key, spec.scheduler
        ));
    }
    Ok(())
}

/// The persistence engine that there is.
pub const SIP: &str = "sip";

/// The control port of FTP, whose services take what comes to other ports too.
pub const FTP: u16 = 21;

/// Of the kernel's table of services.
const BUCKETS: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_touch_is_in_the_first_line() {
        assert!(std::mem::offset_of!(Service, timeouts) < 64);
        assert_eq!(align_of::<Service>(), 64);
    }
}

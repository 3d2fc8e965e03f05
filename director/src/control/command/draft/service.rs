//! The options of a virtual service.

use std::net::{IpAddr, Ipv4Addr};

use shared::addr::{Family, Protocol};

use super::{Draft, cut};
use crate::control::command::UsageError;
use crate::control::command::address::{endpoint, host_v4};
use crate::control::command::legality::Opt;
use crate::control::command::number::{leading_number, number};
use crate::control::command::options::Tag;
use crate::control::command::popt::Found;
use crate::control::names::Names;
use crate::core::operation::{Beyond, Introduction, SegmentSize, ServerGone, TimeoutChange};

/// The virtual service.
#[derive(Debug)]
pub(in crate::control::command) struct Service {
    pub(in crate::control::command) protocol: Option<Protocol>,
    pub(in crate::control::command) address: Option<IpAddr>,
    pub(in crate::control::command) port: u16,
    /// 0: none.
    pub(in crate::control::command) mark: u32,
    pub(in crate::control::command) family: Option<Family>,
    pub(in crate::control::command) scheduler: String,
    /// `-b`, which waits for the scheduler to be known.
    pub(in crate::control::command) flags: String,
    /// Seconds.
    pub(in crate::control::command) persistence: Option<u32>,
    /// IPv4 mask or IPv6 prefix length, by the family.
    pub(in crate::control::command) netmask: u32,
    pub(in crate::control::command) engine: Option<String>,
    pub(in crate::control::command) one_packet: bool,
    /// What only lvsadm has.
    pub(in crate::control::command) beyond: Beyond,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            protocol: None,
            address: None,
            port: 0,
            mark: 0,
            family: None,
            scheduler: String::new(),
            flags: String::new(),
            persistence: None,
            netmask: u32::MAX,
            engine: None,
            one_packet: false,
            beyond: Beyond::default(),
        }
    }
}

impl Draft {
    pub(super) fn address_service(
        &mut self,
        protocol: Protocol,
        value: &str,
        names: &dyn Names,
    ) -> Result<(), UsageError> {
        self.options.insert(Opt::Service)?;
        let endpoint = endpoint(value, Some(protocol), names)
            .ok_or_else(|| UsageError::fault("illegal virtual server address[:port] specified"))?;
        self.service.protocol = Some(protocol);
        self.service.address = Some(endpoint.address);
        self.service.port = endpoint.port.unwrap_or(0);
        self.service.family = Some(Family::of(endpoint.address));
        if endpoint.address.is_ipv6() {
            self.service.netmask = FULL_PREFIX;
        }
        Ok(())
    }

    pub(super) fn mark_service(&mut self, value: &str) -> Result<(), UsageError> {
        self.options.insert(Opt::Service)?;
        self.service.mark = number(value, 1..=i64::from(u32::MAX))
            .and_then(|mark| u32::try_from(mark).ok())
            .ok_or_else(|| {
                UsageError::fault(format!("invalid fwmark value `{value}' specified"))
            })?;
        self.service.family = Some(Family::V4);
        // Nothing of a service by mark depends on the protocol, but names of ports are looked up.
        self.service.protocol = Some(Protocol::TCP);
        Ok(())
    }

    pub(super) fn ipv6(&mut self) -> Result<(), UsageError> {
        if self.service.mark == 0 {
            return Err(UsageError::fault("-6 used before -f\n"));
        }
        self.service.family = Some(Family::V6);
        self.service.netmask = FULL_PREFIX;
        Ok(())
    }

    pub(super) fn service_option(
        &mut self,
        found: &Found<'_>,
        names: &dyn Names,
    ) -> Result<(), UsageError> {
        let value = found.argument.unwrap_or_default();
        match found.tag {
            Tag::Scheduler => {
                self.options.insert(Opt::Scheduler)?;
                self.service.scheduler = cut(value, 15);
            }
            Tag::SchedulerFlags => {
                self.options.insert(Opt::SchedulerFlags)?;
                value.clone_into(&mut self.service.flags);
            }
            Tag::PersistenceEngine => {
                self.options.insert(Opt::PersistenceEngine)?;
                self.service.engine = Some(cut(value, 16)).filter(|name| !name.is_empty());
            }
            Tag::OnePacket => {
                self.options.insert(Opt::OnePacket)?;
                self.service.one_packet = true;
            }
            Tag::Persistent => {
                self.options.insert(Opt::Persistent)?;
                self.service.persistence = Some(match found.argument {
                    Some(value) => timeout(value, 1)?,
                    None => DEFAULT_PERSISTENCE_SECS,
                });
            }
            _ => {
                self.options.insert(Opt::Netmask)?;
                self.service.netmask = self.netmask(value, names)?;
            }
        }
        Ok(())
    }

    /// What IPVS has not.
    pub(super) fn beyond_option(&mut self, tag: Tag, value: &str) -> Result<(), UsageError> {
        let beyond = &mut self.service.beyond;
        match tag {
            Tag::ServerGone => {
                self.options.insert(Opt::ServerGone)?;
                let protocol = self.service.protocol.unwrap_or(Protocol::TCP);
                let way = ServerGone::parse(value, protocol);
                beyond.server_gone = Some(way.ok_or_else(|| {
                    UsageError::fault(format!(
                        "`{value}' is no way to treat connections of a removed server: write keep, \
                         reschedule, reset or auto"
                    ))
                })?);
            }
            Tag::SlowStart => {
                self.options.insert(Opt::SlowStart)?;
                beyond.slow_start_secs = number(value, 0..=MAX_SLOW_START_SECS)
                    .and_then(|secs| u32::try_from(secs).ok())
                    .ok_or_else(|| {
                        UsageError::fault(format!(
                            "slow start `{value}' is not from 0 to {MAX_SLOW_START_SECS} seconds"
                        ))
                    })?;
            }
            Tag::ProxyProtocol => {
                self.options.insert(Opt::ProxyProtocol)?;
                if !["", "v2"].contains(&value) {
                    return Err(UsageError::fault(format!(
                        "`{value}' is no version of the PROXY protocol that is there: write v2"
                    )));
                }
                beyond.introduction = Introduction::ProxyProtocol;
            }
            Tag::NoToa => {
                self.options.insert(Opt::NoToa)?;
                // With the PROXY protocol there is none.
                if beyond.introduction == Introduction::Toa {
                    beyond.introduction = Introduction::None;
                }
            }
            Tag::SetMss => {
                self.options.insert(Opt::SetMss)?;
                let (least, most) = SegmentSize::RANGE.into_inner();
                let size = number(value, least.into()..=most.into());
                let size = size.and_then(|size| u16::try_from(size).ok());
                beyond.segment_size = SegmentSize::AtMost(size.ok_or_else(|| {
                    UsageError::fault(format!(
                        "largest segment `{value}' is not from {least} to {most} bytes"
                    ))
                })?);
            }
            Tag::ClampMss => {
                self.options.insert(Opt::ClampMss)?;
                beyond.segment_size = SegmentSize::PathMtu;
            }
            _ => {
                self.options.insert(Opt::Timeouts)?;
                let values: Vec<&str> = value.split(',').collect();
                let [tcp, tcp_fin, udp] = values[..] else {
                    return Err(UsageError::fault(format!(
                        "timeouts `{value}' are not three: write TCP,TCPFIN,UDP in seconds, 0 for \
                         the general one"
                    )));
                };
                beyond.timeouts = TimeoutChange {
                    tcp: timeout(tcp, 0)?,
                    tcp_fin: timeout(tcp_fin, 0)?,
                    udp: timeout(udp, 0)?,
                };
            }
        }
        Ok(())
    }

    fn netmask(&self, value: &str, names: &dyn Names) -> Result<u32, UsageError> {
        if self.service.family == Some(Family::V6) {
            return u32::try_from(leading_number(value))
                .ok()
                .filter(|bits| (1..=FULL_PREFIX).contains(bits))
                .ok_or_else(|| UsageError::fault("illegal ipv6 netmask specified"));
        }
        host_v4(value, names)
            .map(Ipv4Addr::to_bits)
            .ok_or_else(|| UsageError::fault("illegal virtual server persistent mask specified"))
    }
}

/// A timeout in seconds of `-p` (from 1) and `--set` (from 0); at most 31 days.
pub(in crate::control::command) fn timeout(value: &str, least: i64) -> Result<u32, UsageError> {
    number(value, least..=MAX_TIMEOUT_SECS)
        .and_then(|secs| u32::try_from(secs).ok())
        .ok_or_else(|| UsageError::fault(format!("invalid timeout value `{value}' specified")))
}

/// `-p` without a value. The manual says 300, the program does this.
const DEFAULT_PERSISTENCE_SECS: u32 = 360;
const MAX_TIMEOUT_SECS: i64 = 31 * 86_400;
const MAX_SLOW_START_SECS: i64 = 86_400;
const FULL_PREFIX: u32 = 128;

//! The options of a synchronisation daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Draft, cut};
use crate::control::command::UsageError;
use crate::control::command::legality::Opt;
use crate::control::command::number::number;
use crate::control::command::options::Tag;

/// The synchronisation daemon.
#[derive(Debug, Default)]
pub(in crate::control::command) struct DaemonOptions {
    pub(in crate::control::command) interface: String,
    pub(in crate::control::command) sync_id: u8,
    pub(in crate::control::command) max_length: Option<u16>,
    pub(in crate::control::command) group: Option<IpAddr>,
    pub(in crate::control::command) port: Option<u16>,
    pub(in crate::control::command) ttl: Option<u8>,
}

impl Draft {
    pub(super) fn daemon_option(&mut self, tag: Tag, value: &str) -> Result<(), UsageError> {
        let daemon = &mut self.daemon;
        match tag {
            Tag::McastInterface => {
                self.options.insert(Opt::McastInterface)?;
                daemon.interface = cut(value, 15);
            }
            Tag::McastGroup => {
                self.options.insert(Opt::McastGroup)?;
                daemon.group = Some(multicast_group(value)?);
            }
            Tag::McastPort => {
                self.options.insert(Opt::McastPort)?;
                let port = number(value, 1..=65535).and_then(|port| u16::try_from(port).ok());
                daemon.port = Some(port.ok_or_else(|| illegal("mcast-port"))?);
            }
            Tag::McastTtl => {
                self.options.insert(Opt::McastTtl)?;
                let ttl = number(value, 1..=255).and_then(|ttl| u8::try_from(ttl).ok());
                daemon.ttl = Some(ttl.ok_or_else(|| illegal("mcast-ttl"))?);
            }
            Tag::SyncMaxlen => {
                self.options.insert(Opt::SyncMaxlen)?;
                let length = number(value, 1..=65507).and_then(|bytes| u16::try_from(bytes).ok());
                daemon.max_length = Some(length.ok_or_else(|| illegal("sync-maxlen"))?);
            }
            _ => {
                self.options.insert(Opt::Syncid)?;
                let id = number(value, 0..=255).and_then(|id| u8::try_from(id).ok());
                daemon.sync_id = id.ok_or_else(|| illegal("syncid"))?;
            }
        }
        Ok(())
    }
}

fn multicast_group(value: &str) -> Result<IpAddr, UsageError> {
    match value.parse::<Ipv6Addr>() {
        Ok(group) if group.is_multicast() => Ok(IpAddr::V6(group)),
        Ok(_) => Err(UsageError::fault(format!(
            "invalid IPv6 mcast-group `{value}'"
        ))),
        Err(_) => value
            .parse::<Ipv4Addr>()
            .ok()
            .filter(Ipv4Addr::is_multicast)
            .map(IpAddr::V4)
            .ok_or_else(|| UsageError::fault(format!("invalid IPv4 mcast-group `{value}'"))),
    }
}

fn illegal(what: &str) -> UsageError {
    UsageError::fault(format!("illegal {what} specified"))
}

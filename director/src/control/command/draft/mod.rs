//! What the options of a command line say, taken in the order in which they come.
//!
//! The order matters: `-6` wants a mark before it, `-M` is read by the family of the service so far,
//! and `-r` without a port copies the port of the service so far.

mod daemon;
mod server;
mod service;

use std::net::IpAddr;

use shared::addr::Protocol;

use self::daemon::DaemonOptions;
pub(super) use self::server::Server;
pub(super) use self::service::{Service, timeout};
use super::address::endpoint;
use super::legality::{Opt, OptSet};
use super::options::Tag;
use super::popt::Found;
use super::{Addresses, Columns, Format, Numbers, Order as Sorting, Persistence, UsageError};
use crate::control::names::Names;
use crate::core::operation::ForwardMethod;

/// All that the options have said so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) options: OptSet,
    pub(super) format: Format,
    pub(super) service: Service,
    pub(super) server: Server,
    pub(super) daemon: DaemonOptions,
    /// Of FULLNAT.
    pub(super) local_address: Option<IpAddr>,
    /// Where it goes.
    pub(super) interface: Option<String>,
}

impl Draft {
    /// Takes one option; `word` is the word it was written in, for the message about a second
    /// command.
    pub(super) fn take(
        &mut self,
        found: &Found<'_>,
        word: &str,
        names: &dyn Names,
    ) -> Result<(), UsageError> {
        let value = found.argument.unwrap_or_default();
        match found.tag {
            Tag::TcpService => self.address_service(Protocol::TCP, value, names),
            Tag::UdpService => self.address_service(Protocol::UDP, value, names),
            Tag::SctpService => self.address_service(Protocol::SCTP, value, names),
            Tag::FwmarkService => self.mark_service(value),
            Tag::Ipv6 => self.ipv6(),
            Tag::Scheduler
            | Tag::SchedulerFlags
            | Tag::Persistent
            | Tag::Netmask
            | Tag::PersistenceEngine
            | Tag::OnePacket => self.service_option(found, names),
            Tag::ServerGone
            | Tag::SlowStart
            | Tag::Timeouts
            | Tag::ProxyProtocol
            | Tag::NoToa
            | Tag::SetMss
            | Tag::ClampMss => self.beyond_option(found.tag, value),
            Tag::LocalAddress => {
                self.options.insert(Opt::LocalAddress)?;
                let address = endpoint(value, None, names).filter(|end| end.port.is_none());
                let address =
                    address.ok_or_else(|| UsageError::fault("illegal local address specified"))?;
                self.local_address = Some(address.address);
                Ok(())
            }
            Tag::InterfaceName => {
                self.options.insert(Opt::InterfaceName)?;
                self.interface = Some(value.to_owned());
                Ok(())
            }
            Tag::RealServer => self.real_server(value, names),
            Tag::Masquerading => self.forward(ForwardMethod::Nat),
            Tag::Ipip => self.forward(ForwardMethod::Tunnel),
            Tag::FullNat => self.forward(ForwardMethod::FullNat),
            Tag::Gatewaying => self.forward(ForwardMethod::Direct),
            Tag::Weight | Tag::UpperThreshold | Tag::LowerThreshold => {
                self.server_number(found.tag, value)
            }
            Tag::TunType
            | Tag::TunPort
            | Tag::TunNoChecksum
            | Tag::TunChecksum
            | Tag::TunRemoteChecksum => self.tunnel_option(found.tag, value),
            Tag::McastInterface
            | Tag::McastGroup
            | Tag::McastPort
            | Tag::McastTtl
            | Tag::SyncMaxlen
            | Tag::Syncid => self.daemon_option(found.tag, value),
            Tag::Numeric
            | Tag::Connection
            | Tag::Timeout
            | Tag::Daemon
            | Tag::Stats
            | Tag::Rate
            | Tag::Thresholds
            | Tag::PersistentConn
            | Tag::TunInfo
            | Tag::NoSort
            | Tag::Exact => self.display_option(found.tag),
            Tag::Sort => Ok(()),
            Tag::AddService
            | Tag::EditService
            | Tag::DeleteService
            | Tag::Clear
            | Tag::List
            | Tag::Zero
            | Tag::AddServer
            | Tag::EditServer
            | Tag::DeleteServer
            | Tag::Set
            | Tag::Help
            | Tag::Version
            | Tag::Restore
            | Tag::Save
            | Tag::StartDaemon
            | Tag::AddLocalAddress
            | Tag::DeleteLocalAddress
            | Tag::GetLocalAddresses
            | Tag::StopDaemon => Err(UsageError::fault(format!("invalid option `{word}'"))),
        }
    }

    fn display_option(&mut self, tag: Tag) -> Result<(), UsageError> {
        let option = match tag {
            Tag::Numeric => Opt::Numeric,
            Tag::Connection => Opt::Connection,
            Tag::Timeout => Opt::Timeout,
            Tag::Daemon => Opt::Daemon,
            Tag::Stats => Opt::Stats,
            Tag::Rate => Opt::Rate,
            Tag::Thresholds => Opt::Thresholds,
            Tag::PersistentConn => Opt::PersistentConn,
            Tag::TunInfo => Opt::TunInfo,
            Tag::NoSort => Opt::NoSort,
            _ => Opt::Exact,
        };
        self.options.insert(option)?;
        let format = &mut self.format;
        let columns = match tag {
            Tag::Stats => Columns::Stats,
            Tag::Rate => Columns::Rate,
            Tag::Thresholds => Columns::Thresholds,
            Tag::PersistentConn => {
                format.persistence = Persistence::Shown;
                Columns::PersistentConnections
            }
            Tag::TunInfo => Columns::Tunnels,
            _ => Columns::Default,
        };
        format.columns = format.columns.min(columns);
        match tag {
            Tag::Numeric => format.addresses = Addresses::Numeric,
            Tag::NoSort => format.order = Sorting::Unsorted,
            Tag::Exact => format.numbers = Numbers::Exact,
            _ => {}
        }
        Ok(())
    }
}

/// The kernel's names have a fixed room; what is longer is cut without a word.
fn cut(value: &str, bytes: usize) -> String {
    let mut end = value.len().min(bytes);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].to_owned()
}

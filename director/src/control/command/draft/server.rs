//! The options of a real server.

use super::Draft;
use crate::control::command::UsageError;
use crate::control::command::address::endpoint;
use crate::control::command::legality::{Opt, TunnelType};
use crate::control::command::number::number;
use crate::control::command::options::Tag;
use crate::control::names::Names;
use crate::core::operation::{ForwardMethod, ServerKey, TunnelChecksum};

/// The real server.
#[derive(Debug)]
pub(in crate::control::command) struct Server {
    pub(in crate::control::command) key: Option<ServerKey>,
    pub(in crate::control::command) forward: ForwardMethod,
    pub(in crate::control::command) weight: i32,
    pub(in crate::control::command) upper_threshold: u32,
    pub(in crate::control::command) lower_threshold: u32,
    pub(in crate::control::command) tunnel: TunnelType,
    pub(in crate::control::command) tunnel_port: u16,
    pub(in crate::control::command) tunnel_checksum: TunnelChecksum,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            key: None,
            forward: ForwardMethod::Direct,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
            tunnel_port: 0,
            tunnel_checksum: TunnelChecksum::None,
        }
    }
}

impl Draft {
    pub(super) fn real_server(&mut self, value: &str, names: &dyn Names) -> Result<(), UsageError> {
        self.options.insert(Opt::Server)?;
        let endpoint = endpoint(value, self.service.protocol, names)
            .ok_or_else(|| UsageError::fault("illegal real server address[:port] specified"))?;
        self.server.key = Some(ServerKey {
            address: endpoint.address,
            port: endpoint.port.unwrap_or(self.service.port),
        });
        Ok(())
    }

    pub(super) fn forward(&mut self, method: ForwardMethod) -> Result<(), UsageError> {
        self.options.insert(Opt::Forward)?;
        self.server.forward = method;
        Ok(())
    }

    pub(super) fn server_number(&mut self, tag: Tag, value: &str) -> Result<(), UsageError> {
        let (option, name) = match tag {
            Tag::Weight => (Opt::Weight, "weight"),
            Tag::UpperThreshold => (Opt::UpperThreshold, "u_threshold"),
            _ => (Opt::LowerThreshold, "l_threshold"),
        };
        self.options.insert(option)?;
        let value = number(value, 0..=i64::from(i32::MAX))
            .and_then(|value| i32::try_from(value).ok())
            .ok_or_else(|| UsageError::fault(format!("illegal {name} specified")))?;
        match tag {
            Tag::Weight => self.server.weight = value,
            Tag::UpperThreshold => self.server.upper_threshold = value.unsigned_abs(),
            _ => self.server.lower_threshold = value.unsigned_abs(),
        }
        Ok(())
    }

    pub(super) fn tunnel_option(&mut self, tag: Tag, value: &str) -> Result<(), UsageError> {
        match tag {
            Tag::TunType => {
                self.options.insert(Opt::TunType)?;
                self.server.tunnel = TunnelType::parse(value)
                    .ok_or_else(|| UsageError::fault("illegal tunnel type specified"))?;
            }
            Tag::TunPort => {
                self.options.insert(Opt::TunPort)?;
                self.server.tunnel_port = number(value, 1..=65535)
                    .and_then(|port| u16::try_from(port).ok())
                    .ok_or_else(|| UsageError::fault("illegal tunnel port specified"))?;
            }
            Tag::TunNoChecksum => {
                self.options.insert(Opt::TunNoChecksum)?;
                self.server.tunnel_checksum = TunnelChecksum::None;
            }
            Tag::TunChecksum => {
                self.options.insert(Opt::TunChecksum)?;
                self.server.tunnel_checksum = TunnelChecksum::Full;
            }
            _ => {
                self.options.insert(Opt::TunRemoteChecksum)?;
                self.server.tunnel_checksum = TunnelChecksum::Remote;
            }
        }
        Ok(())
    }
}

//! What the kernel checks of a real server that is added or edited, and what this director can not yet do.

use std::net::IpAddr;

use shared::addr::{Addr, Family};

use crate::core::operation::{ForwardMethod, OperationError, ServerSpec, ServiceKey, Tunnel};

/// What the kernel checks of a server before it looks whether there is one.
pub fn check_numbers(spec: &ServerSpec) -> Result<(), OperationError> {
    let ServerSpec { key, weight, .. } = spec;
    if *weight < 0 {
        return Err(OperationError::OutOfRange(format!(
            "weight {weight} of real server {key}"
        )));
    }
    if spec.lower_threshold > spec.upper_threshold {
        return Err(OperationError::OutOfRange(format!(
            "lower threshold {} of real server {key}, above its upper threshold {},",
            spec.lower_threshold, spec.upper_threshold
        )));
    }
    if spec.upper_threshold > i32::MAX as u32 {
        return Err(OperationError::Invalid(format!(
            "upper threshold {} of real server {key} is above {}",
            spec.upper_threshold,
            i32::MAX
        )));
    }
    if spec.forward == ForwardMethod::Tunnel && matches!(spec.tunnel, Tunnel::Gue { port: 0, .. }) {
        return Err(OperationError::Invalid(format!(
            "real server {key} needs a GUE port other than 0"
        )));
    }
    Ok(())
}

/// What the kernel checks of a server that is new.
pub fn check_address(spec: &ServerSpec) -> Result<(), OperationError> {
    let link_local = matches!(spec.key.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if Addr::from(spec.key.address).is_unicast() && !link_local {
        return Ok(());
    }
    Err(OperationError::Invalid(format!(
        "real server address {} is not a unicast address",
        spec.key.address
    )))
}

/// What this director can not yet do for a server of a service.
pub fn check_known(service: &ServiceKey, spec: &ServerSpec) -> Result<(), OperationError> {
    let what = match (spec.forward, spec.key.address) {
        (ForwardMethod::FullNat, IpAddr::V6(_)) if service.family() == Family::V4 => {
            "FULLNAT of an IPv4 service to an IPv6 real server"
        }
        (ForwardMethod::Bypass, _) => "a bypass by hand",
        (method, address) if method.is_nat() && address.is_loopback() => {
            "NAT to the director itself"
        }
        _ => return Ok(()),
    };
    Err(OperationError::NotYet(format!("{what} ({})", spec.key)))
}

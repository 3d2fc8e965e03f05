//! Bad configuration files and every word that is said about them; good ones and what they mean.

use std::net::IpAddr;

use director::config::{Config, Connections, Vip};
use director::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use shared::addr::Protocol;

/// All that is said about a text, line by line.
fn said(text: &str) -> Vec<String> {
    match Config::parse(text, "d.toml") {
        Ok(config) => panic!("no fault in {text}: {config:?}"),
        Err(faults) => faults.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn faults(text: &str, expected: &[&str]) {
    assert_eq!(said(text), expected, "{text}");
}

/// A service with one server, with `service` and `server` among their keys.
fn with(service: &str, server: &str) -> String {
    format!(
        "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n{service}\n\
         [[service.server]]\naddress = \"10.0.0.1\"\n{server}\n"
    )
}

#[test]
fn strange_keys() {
    faults("[dirctor]\n", &["x"]);
}

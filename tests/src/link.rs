//! Cables and switches.

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use crate::host::Host;

/// A cable between two interfaces, both up.
///
/// # Panics
/// When the kernel refuses.
pub fn cable((one, one_device): (&Host, &str), (other, other_device): (&Host, &str)) {
    let file = std::fs::File::open(other.namespace().path()).expect("the namespace is open");
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(other_device.to_owned()),
        LinkAttribute::NetNsFd(file.as_raw_fd()),
    ];
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    add(
        one,
        one_device,
        vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)],
    );
    up(one, one_device);
    up(other, other_device);
}

/// A switch, up.
///
/// # Panics
/// When the kernel refuses.
pub fn switch(host: &Host, name: &str) {
    add(host, name, vec![LinkInfo::Kind(InfoKind::Bridge)]);
    up(host, name);
}

/// Puts an interface into a switch.
///
/// # Panics
/// When the kernel refuses.
pub fn plug(host: &Host, device: &str, switch: &str) {
    let mut message = LinkMessage::default();
    message.header.index = host.ifindex(device);
    message.attributes = vec![LinkAttribute::Controller(host.ifindex(switch))];
    request(host, RouteNetlinkMessage::SetLink(message), 0, "plug");
}

fn add(host: &Host, name: &str, info: Vec<LinkInfo>) {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(info),
    ];
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    request(host, RouteNetlinkMessage::NewLink(message), flags, name);
}

fn up(host: &Host, device: &str) {
    let index = host.ifindex(device);
    host.netlink(|netlink| netlink.set_link_up(index));
}

fn request(host: &Host, message: RouteNetlinkMessage, flags: u16, what: &str) {
    host.netlink(|netlink| netlink.request(message, flags, |_| format!("link {what}")));
}

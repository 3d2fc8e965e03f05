//! Packet in; verdict, packet out.

mod connections;
mod errors;
mod fragments;
mod ftp;
mod ftp_fullnat;
mod fullnat;
mod fullnat6;
mod garbage;
mod ipsec;
mod ipv6;
mod kernel_tunnels;
pub(crate) mod laboratory;
mod own_packets;
mod proxy_protocol;
mod resets;
mod routed;
mod routed_v6;
mod sctp;
mod segment_size;
mod sip;
mod tunnel_records;
pub(crate) mod tunnels;
mod tunnels_v6;

//! Packet in; verdict, packet out.

mod connections;
mod errors;
mod fragments;
mod fullnat;
mod garbage;
mod kernel_tunnels;
pub(crate) mod laboratory;
mod own_packets;
mod proxy_protocol;
mod resets;
mod routed;
mod segment_size;
mod tunnel_records;
pub(crate) mod tunnels;

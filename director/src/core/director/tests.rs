//! Packet in; verdict, packet out.

mod connections;
mod errors;
mod fragments;
mod fullnat;
mod garbage;
mod laboratory;
mod proxy_protocol;
mod resets;
mod routed;
mod segment_size;
mod tunnel_records;
mod tunnels;

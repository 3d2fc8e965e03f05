//! What is done with arbitrary bytes, and what must then hold.
//!
//! | module | the bytes are |
//! |---|---|
//! | [`packet_views`] | a packet, as `shared::wire` sees it |
//! | [`core_stream`] | steps of a story: frames, operations, changes of the network, time |
//! | [`command_line`] | command lines of lvsadm, one a line |
//! | [`control_protocol`] | what a client sends to the control socket, and what a director answers |
//! | [`configuration`] | one or two configuration files |
//!
//! Each has one function `run` that panics when something does not hold. libFuzzer calls it with
//! bytes of its own (`targets`), and `director/tests/kept_inputs.rs` with every kept one (`seeds`,
//! `found`).

pub mod command_line;
pub mod configuration;
pub mod control_protocol;
pub mod core_stream;
pub mod packet_views;

pub(crate) mod lines;

// The table and the comparison that the recorded transcripts are held against serve here too.
#[path = "../../../director/tests/lockstep/mod.rs"]
pub(crate) mod lockstep;
#[allow(dead_code, reason = "the transcripts need more of it")]
#[path = "../../../director/tests/reference/mod.rs"]
pub(crate) mod reference;

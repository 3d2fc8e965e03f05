#![no_main]
//! See [`fuzz::control_protocol`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::control_protocol::run(data));

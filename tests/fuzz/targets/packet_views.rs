#![no_main]
//! See [`fuzz::packet_views`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::packet_views::run(data));

#![no_main]
//! See [`fuzz::configuration`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::configuration::run(data));

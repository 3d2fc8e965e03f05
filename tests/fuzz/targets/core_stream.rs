#![no_main]
//! See [`fuzz::core_stream`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::core_stream::run(data));

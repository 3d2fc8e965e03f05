#![no_main]
//! See [`fuzz::command_line`].

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::command_line::run(data));

//! System calls that need `unsafe`, one kernel concept per file.
#![allow(unsafe_code)]

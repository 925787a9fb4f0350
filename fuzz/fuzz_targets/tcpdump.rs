//! `cargo +nightly fuzz run tcpdump`

#![no_main]

#[path = "../bodies/tcpdump.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

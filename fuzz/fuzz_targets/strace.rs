//! `cargo +nightly fuzz run strace`

#![no_main]

#[path = "../bodies/strace.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));

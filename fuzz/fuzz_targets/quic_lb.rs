//! See [`fuzz::quic_lb`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::quic_lb(data));

//! See [`fuzz::carrier`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::carrier(data));

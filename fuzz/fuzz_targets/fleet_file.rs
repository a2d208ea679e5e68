//! See [`fuzz::fleet_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::fleet_file(data));

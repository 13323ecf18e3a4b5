//! See [`egressd_fuzz::sniff`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egressd_fuzz::sniff(data));

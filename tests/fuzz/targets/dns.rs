//! See [`egressd_fuzz::dns`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egressd_fuzz::dns(data));

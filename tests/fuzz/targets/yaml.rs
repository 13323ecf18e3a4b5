//! See [`egressd_fuzz::yaml`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egressd_fuzz::yaml(data));

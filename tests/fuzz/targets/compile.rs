//! See [`egressd_fuzz::compile`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| egressd_fuzz::compile(data));

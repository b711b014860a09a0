#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| lockkeeper_tests::fuzz::run("wasm", bytes));

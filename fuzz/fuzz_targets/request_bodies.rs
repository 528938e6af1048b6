//! No bytes that are taken for protobuf or for a push make their readers panic.
#![no_main]

#[expect(dead_code, reason = "each target uses one of the bodies")]
#[path = "../bodies/mod.rs"]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| bodies::bodies(input.0, input.1));

//! No file and no patch panics, and a good file stays one.
#![no_main]

#[expect(dead_code, reason = "each target uses one of the bodies")]
#[path = "../bodies/mod.rs"]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| bodies::surgery(input.0, input.1));

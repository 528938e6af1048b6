//! No account of fields and no configuration panics, and applying twice is applying once.
#![no_main]

#[expect(dead_code, reason = "each target uses one of the bodies")]
#[path = "../bodies/mod.rs"]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| bodies::server_side_apply(input.0, input.1));

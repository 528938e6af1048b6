//! Whatever a Fleet's parameters and template are, what it becomes is bounded and named apart.
#![no_main]

#[expect(dead_code, reason = "each target uses one of the bodies")]
#[path = "../bodies/mod.rs"]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(String, String)>, String, String, u16)| bodies::expand(
    &input.0, &input.1, &input.2, input.3
));

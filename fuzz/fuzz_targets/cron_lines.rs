//! No line and no zone makes the reader panic, and due minutes lie where they are looked for.
#![no_main]

#[expect(dead_code, reason = "each target uses one of the bodies")]
#[path = "../bodies/mod.rs"]
mod bodies;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Option<&str>, i64)| bodies::cron(input.0, input.1, input.2));

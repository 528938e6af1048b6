//! Whatever comes to a webhook, reading and placing it never panics, and what is taken follows
//! what is held.
#![no_main]

use libfuzzer_sys::fuzz_target;
use open_dispatch::server::ingest::{LegacyEndpoint, Place, Seen, events, legacy, place};

fuzz_target!(|input: (u32, u64, &[u8])| {
    let (run, held, bytes) = input;
    for endpoint in [LegacyEndpoint::Logs, LegacyEndpoint::Status, LegacyEndpoint::Artifacts] {
        let _ = legacy(endpoint, bytes);
    }
    let Ok(batch) = events(bytes) else { return };
    // A database counts in signed numbers, and so far nobody gets.
    let seen = Seen { run, held: held >> 2, ..Seen::default() };
    let next = if batch.run == run { seen.held + 1 } else { 1 };
    if let Ok(Place::New(events)) = place(&seen, batch) {
        assert_eq!(events.first().map(|event| event.seq), Some(next));
    }
});

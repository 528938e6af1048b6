//! Merging a patch a second time changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use open_dispatch::resource::merge::merge_patch;
use serde_json::Value;

fuzz_target!(|texts: (&str, &str)| {
    let (Ok(mut target), Ok(patch)) =
        (serde_json::from_str::<Value>(texts.0), serde_json::from_str::<Value>(texts.1))
    else {
        return;
    };
    merge_patch(&mut target, &patch);
    let once = target.clone();
    merge_patch(&mut target, &patch);
    assert_eq!(target, once);
});

//! No text makes the reader panic, and what it takes reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use open_dispatch::resource::yaml;

fuzz_target!(|text: &str| {
    match yaml::read(text, None) {
        Ok(objects) => {
            for object in objects {
                let written = yaml::write(&object);
                assert_eq!(yaml::read(&written, None), Ok(vec![object]), "{written}");
            }
        }
        Err(faults) => assert!(!faults.0.is_empty()),
    }
});

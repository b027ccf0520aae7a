//! Any bytes are MiniJSON or a `DecodingError`, and both ways to read them agree which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use smok_core::minijson::{decode, from_slice};

fuzz_target!(|data: &[u8]| {
    assert_eq!(decode(data).is_ok(), from_slice::<IgnoredAny>(data).is_ok());
});

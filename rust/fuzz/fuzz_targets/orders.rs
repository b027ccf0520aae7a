//! Any body is sections or a `DecodingError`, every order is one that can be carried out, and what is
//! encoded is read as what it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smok_core::order::{Format, Order, decode_sections, encode_section, is_wait};
use smok_core::value::Value;

fuzz_target!(|body: &[u8]| {
    for format in [Format::Json, Format::MiniJson] {
        let Ok(decoded) = decode_sections(body, format) else {
            continue;
        };
        assert!(decoded.problems.len() <= 101);
        for order in decoded.sections.iter().flat_map(|section| &section.orders) {
            match order {
                Order::Wait { seconds } => assert!(is_wait(*seconds)),
                Order::Write { value: Value::Float(float), .. } => assert!(float.is_finite()),
                _ => {}
            }
        }
        for section in decoded.sections {
            let body = encode_section(&section.orders, section.disposition).unwrap();
            let again = decode_sections(&body, Format::MiniJson).unwrap();
            assert_eq!(again.sections, [section]);
        }
    }
});

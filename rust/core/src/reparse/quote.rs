//! How messages show texts: as Python's `repr`, so that nothing in them reaches a terminal or a log as a control.

use std::fmt::Write as _;

/// Most characters of a text that an error message quotes, as CPython does in that of `int()`.
const QUOTED: usize = 200;

/// `repr(text)`, cut to what an error message can bear.
pub(super) fn quoted(source: &str) -> String {
    let quote = if source.contains('\'') && !source.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::from(quote);
    for letter in source.chars().take(QUOTED) {
        match letter {
            '\\' => shown.push_str("\\\\"),
            letter if letter == quote => shown.extend(['\\', letter]),
            letter => show(letter, &mut shown),
        }
    }
    shown.push(quote);
    shown.chars().take(QUOTED).collect()
}

/// A text as `repr` shows it, but without quotes, and with backslashes as they are.
pub(super) fn shown(source: &str) -> String {
    let mut shown = String::with_capacity(source.len());
    for letter in source.chars() {
        show(letter, &mut shown);
    }
    shown
}

/// Adds a letter as `repr` shows it, except for backslashes and quotes, which stay as they are.
fn show(letter: char, shown: &mut String) {
    let code = u32::from(letter);
    // Writing to a String does not fail.
    let _ = match (letter, code) {
        ('\t', _) => shown.write_str("\\t"),
        ('\n', _) => shown.write_str("\\n"),
        ('\r', _) => shown.write_str("\\r"),
        _ if is_printable(letter) => shown.write_char(letter),
        (_, ..=0xff) => write!(shown, "\\x{code:02x}"),
        (_, ..=0xffff) => write!(shown, "\\u{code:04x}"),
        _ => write!(shown, "\\U{code:08x}"),
    };
}

/// Whether Python shows a letter as it is: `str.isprintable`. Rust has the same categories in its `Debug`, where a letter
/// that combines with the one before it needs one.
pub(super) fn is_printable(letter: char) -> bool {
    if letter.is_ascii() {
        return !letter.is_ascii_control();
    }
    String::from_iter(['a', letter]).escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_python_quotes_them_up_to_a_length() {
        assert_eq!(quoted("it's\n"), r#""it's\n""#);
        assert_eq!(quoted("'\"\\\x01"), r#"'\'"\\\x01'"#);
        assert_eq!(
            quoted("e\u{301}\u{a0}\u{2028}\u{e0001}"),
            "'e\u{301}\\xa0\\u2028\\U000e0001'"
        );
        assert_eq!(quoted(&"ż".repeat(500)).chars().count(), 200);
    }
}

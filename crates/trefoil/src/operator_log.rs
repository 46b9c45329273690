//! Lines for the operator, on standard error: one for each event that he wants to know, none for
//! a write.

use std::fmt::Arguments;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest line, in characters: what comes from outside must not flood the log.
const LINE_CHARACTERS_MAX: usize = 1_000;

/// Writes one line with its moment (seconds since 1970, UTC). Unprintable characters are escaped.
pub fn line(text: Arguments<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    eprintln!("{}.{:03} {}", now.as_secs(), now.subsec_millis(), printable(&text.to_string()));
}

fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars().take(LINE_CHARACTERS_MAX) {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_cannot_be_forged() {
        assert_eq!(super::printable("a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
    }
}

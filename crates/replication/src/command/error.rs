//! The words of errors about a command's form: Redis 7.0's own texts, so that clients and their
//! tests recognise them. What a client sent is echoed only shortened and without control bytes.

use super::{Arguments, Reply};
use alloc::format;
use alloc::string::String;

/// How many bytes of what a client sent are echoed in an error.
pub const ECHO_BYTES_MAX: usize = 128;

/// Arguments that do not fit together.
pub const SYNTAX: &str = "ERR syntax error";
/// An argument, or a stored value, that is no 64-bit whole number.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// An argument, or a stored value, that is no number.
pub const NOT_A_FLOAT: &str = "ERR value is not a valid float";
/// A counter that would leave the 64-bit whole numbers.
pub const OVERFLOW: &str = "ERR increment or decrement would overflow";
/// DECRBY by the one number that has no negative.
pub const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
/// A counter that would leave the finite numbers.
pub const NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";
/// SETRANGE before the start.
pub const OFFSET: &str = "ERR offset is out of range";
/// A string that would become longer than any may be.
pub const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
/// SCAN with something that no SCAN has returned.
pub const CURSOR: &str = "ERR invalid cursor";

/// A fixed error.
pub(crate) fn fixed(text: &'static str) -> Reply<'static> {
    Reply::error(text)
}

/// No such command; echoes the first arguments.
pub fn unknown_command(arguments: Arguments<'_>) -> Reply<'static> {
    let name = echo(arguments.get(0).unwrap_or_default(), ECHO_BYTES_MAX);
    let mut echoed = String::new();
    for argument in arguments.from(1).iter() {
        if echoed.len() >= ECHO_BYTES_MAX {
            break;
        }
        let room = ECHO_BYTES_MAX - echoed.len();
        echoed += &format!("'{}' ", echo(argument, room));
    }
    Reply::error(format!("ERR unknown command '{name}', with args beginning with: {echoed}"))
}

/// Too few or too many arguments.
pub fn wrong_arity(command: &str) -> Reply<'static> {
    Reply::error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// A lifetime or deadline that cannot be.
pub fn invalid_expire(command: &str) -> Reply<'static> {
    Reply::error(format!("ERR invalid expire time in '{command}' command"))
}

/// What a client sent, fit to be part of an error's single line: at most `limit` bytes, control
/// characters as spaces, what is not UTF-8 as `?`.
pub fn echo(bytes: &[u8], limit: usize) -> String {
    let mut text = String::new();
    for chunk in bytes.get(..limit).unwrap_or(bytes).utf8_chunks() {
        text.extend(chunk.valid().chars().map(|c| if c.is_control() { ' ' } else { c }));
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_one_short_line() {
        assert_eq!(echo(b"a\r\nb\0c\xffd", 128), "a  b c?d");
        assert_eq!(echo("é".repeat(100).as_bytes(), 128).chars().count(), 64);
        assert_eq!(echo("aé".as_bytes(), 2), "a?");
        assert_eq!(echo(&[b'x'; 500], ECHO_BYTES_MAX).len(), ECHO_BYTES_MAX);
    }
}

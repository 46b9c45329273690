//! Replies to bytes. Everything appends to the client's out buffer.

use super::Protocol;
use replication::Reply;

const LINE_END: &[u8; 2] = b"\r\n";
/// Bytes of the longest line with a number: its kind, twenty digits, the end.
const LINE_BYTES_MAX: usize = 23;

/// Writes a reply of the core.
pub fn reply(out: &mut Vec<u8>, reply: &Reply<'_>, protocol: Protocol) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Simple(text) => simple(out, text),
        Reply::Integer(number) => integer(out, *number),
        Reply::Bulk(bytes) => bulk(out, bytes),
        Reply::Nil => nil(out, protocol),
        Reply::Array(parts) => {
            array(out, parts.len());
            for part in parts {
                self::reply(out, part, protocol);
            }
        }
        Reply::Error(text) => error(out, text),
    }
}

/// `+PONG`
pub fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    one_line(out, text);
}

/// `-ERR text`: the code is part of the text.
pub fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    one_line(out, text);
}

/// `:1`
pub fn integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.extend_from_slice(b":-");
        return decimal(out, None, number.unsigned_abs());
    }
    decimal(out, Some(b':'), number.unsigned_abs());
}

/// `$3`, then the bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + LINE_BYTES_MAX + LINE_END.len());
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(LINE_END);
}

/// Text that is shown as it is: verbatim in RESP3, a bulk string in RESP2.
pub fn verbatim(out: &mut Vec<u8>, text: &str, protocol: Protocol) {
    if protocol == Protocol::Resp2 {
        return bulk(out, text.as_bytes());
    }
    header(out, b'=', text.len() + 4);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// No value.
pub fn nil(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n".as_slice(),
        Protocol::Resp3 => b"_\r\n".as_slice(),
    });
}

/// The head of an array; its elements follow.
pub fn array(out: &mut Vec<u8>, length: usize) {
    header(out, b'*', length);
}

/// The head of a map of so many pairs: a flat array in RESP2.
pub fn map(out: &mut Vec<u8>, pairs: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', pairs * 2),
        Protocol::Resp3 => header(out, b'%', pairs),
    }
}

/// The head of a set: an array in RESP2.
pub fn set(out: &mut Vec<u8>, length: usize, protocol: Protocol) {
    match protocol {
        Protocol::Resp2 => header(out, b'*', length),
        Protocol::Resp3 => header(out, b'~', length),
    }
}

fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    decimal(out, Some(kind), length as u64);
}

/// A text that must not be able to end its line: CR, LF and NUL become blanks.
fn one_line(out: &mut Vec<u8>, text: &str) {
    let safe = |byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte };
    out.extend(text.bytes().map(safe));
    out.extend_from_slice(b"\r\n");
}

/// A line with a number: its kind, the digits, the end. Made from the back, and written at once.
#[inline]
fn decimal(out: &mut Vec<u8>, kind: Option<u8>, mut number: u64) {
    let mut line = [0u8; LINE_BYTES_MAX];
    let (front, end) = line.split_at_mut(LINE_BYTES_MAX - LINE_END.len());
    end.copy_from_slice(LINE_END);
    let mut start = front.len();
    let digits = std::iter::from_fn(|| {
        let digit = b'0' + (number % 10) as u8;
        number /= 10;
        Some((digit, number == 0))
    });
    for (place, (digit, is_last)) in front.iter_mut().rev().zip(digits) {
        *place = digit;
        start -= 1;
        if is_last {
            break;
        }
    }
    if let Some(kind) = kind
        && let Some(place) = front.get_mut(start - 1)
    {
        *place = kind;
        start -= 1;
    }
    out.extend_from_slice(line.get(start..).unwrap_or(&[]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(reply: Reply<'_>, protocol: Protocol) -> String {
        let mut out = Vec::new();
        super::reply(&mut out, &reply, protocol);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_reply_in_both_protocols() {
        let two = |reply| bytes(reply, Protocol::Resp2);
        assert_eq!(two(Reply::Ok), "+OK\r\n");
        assert_eq!(two(Reply::Simple("PONG".into())), "+PONG\r\n");
        assert_eq!(two(Reply::Integer(i64::MIN)), ":-9223372036854775808\r\n");
        assert_eq!(two(Reply::Integer(1070)), ":1070\r\n");
        assert_eq!(two(Reply::Integer(0)), ":0\r\n");
        assert_eq!(two(Reply::Integer(i64::MAX)), ":9223372036854775807\r\n");
        assert_eq!(two(Reply::Bulk([b'v'; 100].as_slice().into())).get(..6), Some("$100\r\n"));
        assert_eq!(two(Reply::Bulk(b"".as_slice().into())), "$0\r\n\r\n");
        assert_eq!(two(Reply::Bulk(b"a\r\nb".as_slice().into())), "$4\r\na\r\nb\r\n");
        assert_eq!(two(Reply::Nil), "$-1\r\n");
        assert_eq!(bytes(Reply::Nil, Protocol::Resp3), "_\r\n");
        let nested = Reply::Array(vec![Reply::Nil, Reply::Array(vec![Reply::Integer(0)])]);
        assert_eq!(bytes(nested, Protocol::Resp3), "*2\r\n_\r\n*1\r\n:0\r\n");
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let error = Reply::error("ERR unknown 'a\r\n+OK\0'");
        assert_eq!(bytes(error, Protocol::Resp2), "-ERR unknown 'a  +OK '\r\n");
    }

    #[test]
    fn maps_are_flat_in_resp2() {
        let mut out = Vec::new();
        map(&mut out, 2, Protocol::Resp2);
        map(&mut out, 2, Protocol::Resp3);
        assert_eq!(out, b"*4\r\n%2\r\n");
    }
}

//! The name of a command that is carried out at most once, however often it is sent: its session
//! and its number in it.

use super::number;

/// Bytes of a session's name.
pub const SESSION_BYTES_MAX: usize = 128;

/// What `TF.ONCE` says of its command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnceId<'a> {
    /// The session: when the client started it, in milliseconds since 1970, then `-` and anything.
    pub session: &'a [u8],
    /// The command's number in the session, from 1 on.
    pub sequence: u64,
    /// A hash of the command's words: another command under the same number is a mistake of the
    /// client, and is told, not answered with the first one's reply.
    pub digest: u64,
}

/// When a session was started, by its name; `None` if that is no session's name. The name says so
/// itself, as a session whose past is forgotten can then be told from one that has none.
pub fn started_ms(session: &[u8]) -> Option<u64> {
    if session.len() > SESSION_BYTES_MAX {
        return None;
    }
    let dash = session.iter().position(|byte| *byte == b'-')?;
    let (digits, rest) = session.split_at_checked(dash)?;
    if rest.len() < 2 {
        return None;
    }
    number::unsigned(digits).filter(|started_ms| *started_ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_says_when_it_was_started() {
        assert_eq!(started_ms(b"1763890130000-web1-42"), Some(1_763_890_130_000));
        assert_eq!(started_ms(b"1-x"), Some(1));
        for wrong in
            [&b""[..], b"-x", b"12", b"12-", b"12a-x", b"012-x", b"0-x", b"99999999999999999999-x"]
        {
            assert_eq!(started_ms(wrong), None, "{}", wrong.escape_ascii());
        }
        assert_eq!(started_ms(&[b'1'; SESSION_BYTES_MAX + 1]), None);
    }
}

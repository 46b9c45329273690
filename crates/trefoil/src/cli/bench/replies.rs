//! Counts the replies of RESP2 in a stream of bytes, however it is cut into reads.

use std::fmt;

/// A longer line is no reply; bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// A longer value is no reply; bytes.
const BULK_BYTES_MAX: u64 = 1 << 30;
/// An array of more parts is no reply.
const PARTS_MAX: u64 = 1 << 32;
/// Bytes of a line that an error shows.
const SHOWN_BYTES_MAX: usize = 80;

/// A whole reply. The texts of lines are [`Scanner::text`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// `+OK`
    Simple,
    /// `-ERR ...`
    Error,
    /// `:42`
    Integer(i64),
    /// A value, which is passed over.
    Bulk,
    /// No value.
    Nil,
    /// An array, with all that is in it.
    Array,
}

/// Bytes that are no reply.
#[derive(PartialEq, Eq, Debug)]
pub struct Nonsense(String);

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no reply of RESP2: `{}`", self.0)
    }
}

/// What is known of the reply that has not wholly arrived.
#[derive(Default, Debug)]
pub struct Scanner {
    /// The line that is under way, or the last one that ended.
    line: Vec<u8>,
    line_ended: bool,
    /// Bytes of a value that are still to come, with its line end.
    bulk_left: u64,
    /// Parts of an array that are still to come.
    parts_left: u64,
}

impl Scanner {
    /// Takes the next whole reply off the front of `bytes`; none if it does not end in them: then
    /// they are used up.
    ///
    /// # Errors
    /// What is no reply; the stream is of no use after it.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Answer>, Nonsense> {
        loop {
            let ended = if self.bulk_left > 0 {
                if !self.skip(bytes) {
                    return Ok(None);
                }
                Some(Answer::Bulk)
            } else {
                if !self.take_line(bytes)? {
                    return Ok(None);
                }
                self.line_answer()?
            };
            let Some(answer) = ended else { continue };
            match self.parts_left {
                0 => return Ok(Some(answer)),
                1 => {
                    self.parts_left = 0;
                    return Ok(Some(Answer::Array));
                }
                more => self.parts_left = more - 1,
            }
        }
    }

    /// The line of the reply that ended last, without its first character.
    pub fn text(&self) -> &[u8] {
        self.line.get(1..).unwrap_or(&[])
    }

    /// Passes over a value's bytes; true if it ends here.
    fn skip(&mut self, bytes: &mut &[u8]) -> bool {
        let length = bytes.len().min(usize::try_from(self.bulk_left).unwrap_or(usize::MAX));
        *bytes = bytes.get(length..).unwrap_or(&[]);
        self.bulk_left -= length as u64;
        self.bulk_left == 0
    }

    /// Takes bytes up to a line's end; true if that was there.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<bool, Nonsense> {
        if self.line_ended {
            self.line.clear();
            self.line_ended = false;
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let end = newline.map_or(bytes.len(), |place| place + 1);
        let (taken, rest) = bytes.split_at(end);
        *bytes = rest;
        if self.line.len() + taken.len() > LINE_BYTES_MAX {
            return Err(self.nonsense());
        }
        self.line.extend_from_slice(taken);
        if newline.is_none() {
            return Ok(false);
        }
        self.line_ended = true;
        if !self.line.ends_with(b"\r\n") {
            return Err(self.nonsense());
        }
        self.line.truncate(self.line.len() - 2);
        Ok(true)
    }

    /// What the line says; none if more belongs to it.
    fn line_answer(&mut self) -> Result<Option<Answer>, Nonsense> {
        let kind = self.line.first().copied();
        match kind {
            Some(b'+') => return Ok(Some(Answer::Simple)),
            Some(b'-') => return Ok(Some(Answer::Error)),
            _ => {}
        }
        let number = number(self.text()).ok_or_else(|| self.nonsense())?;
        match (kind, u64::try_from(number)) {
            (Some(b':'), _) => Ok(Some(Answer::Integer(number))),
            (Some(b'$' | b'*'), Err(_)) if number == -1 => Ok(Some(Answer::Nil)),
            (Some(b'$'), Ok(length)) if length <= BULK_BYTES_MAX => {
                self.bulk_left = length + 2;
                Ok(None)
            }
            (Some(b'*'), Ok(0)) => Ok(Some(Answer::Array)),
            (Some(b'*'), Ok(parts)) if self.parts_left + parts <= PARTS_MAX => {
                // The array itself is the part of another, whose place its own parts take.
                self.parts_left = self.parts_left.saturating_sub(1) + parts;
                Ok(None)
            }
            _ => Err(self.nonsense()),
        }
    }

    fn nonsense(&self) -> Nonsense {
        let shown = self.line.get(..SHOWN_BYTES_MAX).unwrap_or(&self.line);
        Nonsense(String::from_utf8_lossy(shown).trim_end().to_owned())
    }
}

/// `-?[0-9]+`, if it fits.
fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        let tens = value.checked_mul(10)?;
        let digit = i64::from(digit);
        value = if negative { tens.checked_sub(digit)? } else { tens.checked_add(digit)? };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every kind of reply, and what it is.
    const STREAM: &[u8] =
        b"+OK\r\n-ERR no\r\n:-42\r\n$5\r\na\r\nb\n\r\n$-1\r\n$0\r\n\r\n*-1\r\n*0\r\n\
        *2\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n:-9223372036854775808\r\n+PONG\r\n";
    const ANSWERS: [Answer; 11] = [
        Answer::Simple,
        Answer::Error,
        Answer::Integer(-42),
        Answer::Bulk,
        Answer::Nil,
        Answer::Bulk,
        Answer::Nil,
        Answer::Array,
        Answer::Array,
        Answer::Integer(i64::MIN),
        Answer::Simple,
    ];

    fn scan(scanner: &mut Scanner, mut bytes: &[u8]) -> Result<Vec<(Answer, String)>, Nonsense> {
        let mut answers = Vec::new();
        while let Some(answer) = scanner.next(&mut bytes)? {
            answers.push((answer, String::from_utf8_lossy(scanner.text()).into_owned()));
        }
        assert!(bytes.is_empty());
        Ok(answers)
    }

    #[test]
    fn replies_are_the_same_however_they_are_cut() {
        let whole = scan(&mut Scanner::default(), STREAM).unwrap();
        assert_eq!(whole.iter().map(|(answer, _)| *answer).collect::<Vec<_>>(), ANSWERS);
        assert!(whole.iter().any(|(_, text)| text == "ERR no"));
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let mut scanner = Scanner::default();
                let mut answers = Vec::new();
                for part in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                    answers.extend(scan(&mut scanner, part).unwrap());
                }
                assert_eq!(answers, whole, "cut at {first} and {second}");
            }
        }
        let mut scanner = Scanner::default();
        let single = STREAM.chunks(1).flat_map(|byte| scan(&mut scanner, byte).unwrap());
        assert_eq!(single.collect::<Vec<_>>(), whole);
    }

    #[test]
    fn what_is_no_reply_is_refused_and_shown() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"+OK\n",
            b"\r\n",
            b":\r\n",
            b":1x\r\n",
            b":9223372036854775808\r\n",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b"%1\r\n",
        ] {
            let error = scan(&mut Scanner::default(), bytes).unwrap_err();
            let shown = String::from_utf8_lossy(bytes).trim_end().to_owned();
            assert!(error.to_string().contains(&shown), "{error}");
        }
        let endless = vec![b'+'; LINE_BYTES_MAX + 1];
        assert!(scan(&mut Scanner::default(), &endless).is_err());
    }
}

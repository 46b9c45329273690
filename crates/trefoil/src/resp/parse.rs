//! Requests, parsed by hand to spans of the read buffer: 22 ns for a SET, no allocation by a
//! length that was only claimed, and resumable, so that a large request in small reads is scanned
//! once. The rules and the error texts are Redis 7.0's (`networking.c`), with two differences: the
//! CRLF behind an argument is checked, and a length line has at most 32 bytes.

use replication::Span;
use std::fmt;
use std::ops::Range;

/// Arguments of one request: Redis's own limit.
pub const ARGUMENTS_MAX: i64 = 1_048_576;
/// Arguments that are made room for before they have arrived.
const ARGUMENTS_RESERVED_MAX: usize = 1_024;
/// Bytes of one argument that no configuration can exceed.
pub const BULK_BYTES_LIMIT: usize = 512 << 20;
/// Bytes of one argument, unless the driver says otherwise. A value travels to the followers in one
/// frame; while that is on its way heartbeats wait behind it, and with 40 MB they waited for longer
/// than an election does.
pub const BULK_BYTES_DEFAULT: usize = 16 << 20;
/// Bytes of an inline request.
pub const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes that a request may have beyond its largest argument. All of a request becomes one entry
/// of a log, and that must fit into a frame to a peer: a request of many large values is refused.
pub const REQUEST_BYTES_SLACK: usize = 1 << 20;
/// Bytes of a line that holds a length.
const LENGTH_LINE_BYTES_MAX: usize = 32;

/// Complete requests as spans, in the shape that the core takes.
#[derive(Default, Debug)]
pub struct Batch {
    /// The arguments of all requests, one after another.
    pub spans: Vec<Span>,
    /// For each request, the end of its arguments in `spans`.
    pub ends: Vec<u32>,
}

impl Batch {
    /// Forgets the requests and keeps the memory.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.ends.clear();
    }

    /// The arguments of some of the requests, one after another.
    pub fn spans_of(&self, run: Range<usize>) -> &[Span] {
        let end_of = |number: Option<usize>| number.and_then(|n| self.ends.get(n));
        let start = end_of(run.start.checked_sub(1)).map_or(0, |end| *end as usize);
        let end = end_of(run.end.checked_sub(1)).map_or(0, |end| *end as usize);
        self.spans.get(start..end).unwrap_or(&[])
    }

    fn complete_length(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }
}

/// What a client may not send. The connection is closed after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// A request's count is no number, or over [`ARGUMENTS_MAX`].
    InvalidMultibulkLength,
    /// An argument's length is no number, negative or over the limit.
    InvalidBulkLength,
    /// An argument does not start with `$` but with this byte.
    ExpectedDollar(u8),
    /// An argument is not followed by CRLF.
    ExpectedLineEnd,
    /// An inline request's quotes do not match.
    UnbalancedQuotes,
    /// An inline request is over [`INLINE_BYTES_MAX`].
    TooBigInline,
    /// The line of a request's count does not end.
    TooBigCount,
    /// The line of an argument's length does not end.
    TooBigLength,
    /// The request is over the limit of an argument and [`REQUEST_BYTES_SLACK`].
    TooBigRequest,
}

/// As it stands in the error reply, behind `ERR `.
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            Self::InvalidBulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedDollar(got) => write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::ExpectedLineEnd => f.write_str("expected CRLF after an argument"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::TooBigInline => f.write_str("too big inline request"),
            Self::TooBigCount => f.write_str("too big mbulk count string"),
            Self::TooBigLength => f.write_str("too big bulk count string"),
            Self::TooBigRequest => f.write_str("too big request"),
        }
    }
}

/// How far a call of [`Parser::parse`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parsed {
    /// Bytes of complete requests. The rest belongs at the front of the next call's bytes.
    pub consumed: usize,
    /// What was wrong behind the complete requests.
    pub error: Option<ProtocolError>,
}

/// What is known of the request that has not wholly arrived.
#[derive(Default, Debug)]
pub struct Parser {
    /// Arguments still to come; 0 between requests and in an inline one.
    missing: usize,
    /// Bytes from the request's start that need no second look.
    position: usize,
    /// The arguments that were there at the end of the last call, from the request's start.
    spans: Vec<Span>,
    /// The request began in an earlier call: its arguments go to `spans`.
    resumed: bool,
}

enum Step {
    /// A request ends here.
    Complete(usize),
    /// An empty request ends here: no reply.
    Empty(usize),
    /// More bytes are needed.
    Incomplete,
}

impl Parser {
    /// Takes all complete requests out of `bytes`, which start with what the last call left over.
    /// Inline arguments are unquoted in place.
    pub fn parse(&mut self, bytes: &mut [u8], bulk_max: usize, batch: &mut Batch) -> Parsed {
        let mut start = 0;
        loop {
            if self.position == 0
                && let Some(end) = usual(bytes, start, bulk_max, &mut batch.spans)
            {
                batch.ends.push(batch.spans.len() as u32);
                start = end;
                continue;
            }
            match self.request(bytes, start, bulk_max, batch) {
                Ok(Step::Complete(end)) => {
                    if self.resumed {
                        batch.spans.append(&mut self.spans);
                    }
                    batch.ends.push(batch.spans.len() as u32);
                    self.reset();
                    start = end;
                }
                Ok(Step::Empty(end)) => {
                    self.reset();
                    start = end;
                }
                Ok(Step::Incomplete) => {
                    self.keep(start, batch);
                    return Parsed { consumed: start, error: None };
                }
                Err(error) => {
                    batch.spans.truncate(batch.complete_length());
                    self.reset();
                    return Parsed { consumed: start, error: Some(error) };
                }
            }
        }
    }

    /// Ready for the next request.
    fn reset(&mut self) {
        self.missing = 0;
        self.position = 0;
        if std::mem::take(&mut self.resumed) {
            self.spans = Vec::new();
        }
    }

    /// Keeps the arguments of the incomplete request, counted from its start.
    fn keep(&mut self, start: usize, batch: &mut Batch) {
        if self.missing > 0 && !self.resumed {
            let tail = batch.spans.drain(batch.complete_length()..);
            self.spans.extend(tail.map(|span| Span { start: span.start - start as u32, ..span }));
            self.resumed = true;
        }
    }

    fn request(
        &mut self,
        bytes: &mut [u8],
        start: usize,
        bulk_max: usize,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        let Some(request) = bytes.get_mut(start..) else { return Ok(Step::Incomplete) };
        match request.first() {
            None => Ok(Step::Incomplete),
            Some(b'*') => {
                let step = self.multibulk(request, start, bulk_max, batch)?;
                let length = match step {
                    Step::Complete(end) | Step::Empty(end) => end - start,
                    Step::Incomplete => request.len(),
                };
                if length > bulk_max + REQUEST_BYTES_SLACK {
                    return Err(ProtocolError::TooBigRequest);
                }
                Ok(step)
            }
            Some(_) => self.inline(request, start, batch),
        }
    }

    /// `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`
    fn multibulk(
        &mut self,
        request: &[u8],
        start: usize,
        bulk_max: usize,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        let spans = if self.resumed { &mut self.spans } else { &mut batch.spans };
        let mut position = self.position;
        if self.missing == 0 {
            let (count, after) = match length_line(request, 1) {
                Line::Number(count, after) => (count, after),
                Line::Incomplete => return Ok(Step::Incomplete),
                Line::Invalid => return Err(ProtocolError::InvalidMultibulkLength),
                Line::TooLong => return Err(ProtocolError::TooBigCount),
            };
            if count <= 0 {
                return Ok(Step::Empty(start + after));
            }
            if count > ARGUMENTS_MAX {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            self.missing = count as usize;
            position = after;
            spans.reserve(self.missing.min(ARGUMENTS_RESERVED_MAX));
        }
        while self.missing > 0 {
            self.position = position;
            let Some(kind) = request.get(position) else { return Ok(Step::Incomplete) };
            if *kind != b'$' {
                return Err(ProtocolError::ExpectedDollar(*kind));
            }
            let (length, data) = match length_line(request, position + 1) {
                Line::Number(length, data) => (length, data),
                Line::Incomplete => return Ok(Step::Incomplete),
                Line::Invalid => return Err(ProtocolError::InvalidBulkLength),
                Line::TooLong => return Err(ProtocolError::TooBigLength),
            };
            let length = usize::try_from(length).map_err(|_| ProtocolError::InvalidBulkLength)?;
            if length > bulk_max {
                return Err(ProtocolError::InvalidBulkLength);
            }
            let end = data + length;
            let Some(line_end) = request.get(end..end + 2) else { return Ok(Step::Incomplete) };
            if line_end != b"\r\n" {
                return Err(ProtocolError::ExpectedLineEnd);
            }
            spans.push(Span { start: (start + data) as u32, length: length as u32 });
            self.missing -= 1;
            position = end + 2;
        }
        Ok(Step::Complete(start + position))
    }

    /// `SET key "a value"\n`
    fn inline(
        &mut self,
        request: &mut [u8],
        start: usize,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        let unseen = request.get(self.position..).unwrap_or(&[]);
        let Some(found) = unseen.iter().position(|byte| *byte == b'\n') else {
            if request.len() > INLINE_BYTES_MAX {
                return Err(ProtocolError::TooBigInline);
            }
            self.position = request.len();
            return Ok(Step::Incomplete);
        };
        let newline = self.position + found;
        if newline > INLINE_BYTES_MAX {
            return Err(ProtocolError::TooBigInline);
        }
        let before = batch.spans.len();
        let line = request.get_mut(..newline).unwrap_or(&mut []);
        let length = if line.last() == Some(&b'\r') { newline - 1 } else { newline };
        if let Some(line) = line.get_mut(..length) {
            split_quoted(line, start, &mut batch.spans)?;
        }
        let end = start + newline + 1;
        Ok(if batch.spans.len() == before { Step::Empty(end) } else { Step::Complete(end) })
    }
}

/// Most arguments of a request that [`usual`] takes: one digit.
const USUAL_ARGUMENTS_MAX: u8 = b'9';

/// A request that is wholly there and as most are: at most nine arguments, each of less than 1000
/// bytes. Adds its arguments and returns its end. `None` for any other, of which nothing is kept.
#[inline]
fn usual(bytes: &[u8], start: usize, bulk_max: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let Some([b'*', count @ b'1'..=USUAL_ARGUMENTS_MAX, b'\r', b'\n', ..]) = bytes.get(start..)
    else {
        return None;
    };
    let before = spans.len();
    let mut position = start + 4;
    for _ in 0..count - b'0' {
        let Some((data, length)) = usual_argument(bytes, position, bulk_max) else {
            spans.truncate(before);
            return None;
        };
        spans.push(Span { start: data as u32, length: length as u32 });
        position = data + length + 2;
    }
    Some(position)
}

/// Where the argument that begins at a place has its data, and how much.
#[inline]
fn usual_argument(bytes: &[u8], position: usize, bulk_max: usize) -> Option<(usize, usize)> {
    let number = |digits: &[u8]| digits.iter().fold(0, |n, d| n * 10 + usize::from(d - b'0'));
    let (length, head) = match bytes.get(position..)? {
        [b'$', a @ b'0'..=b'9', b'\r', b'\n', ..] => (number(&[*a]), 4),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => (number(&[*a, *b]), 5),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', ..] => {
            (number(&[*a, *b, *c]), 6)
        }
        _ => return None,
    };
    let data = position + head;
    let is_whole = bytes.get(data + length..data + length + 2) == Some(b"\r\n");
    (is_whole && length <= bulk_max).then_some((data, length))
}

enum Line {
    /// The number, and where the line after it starts.
    Number(i64, usize),
    Incomplete,
    Invalid,
    TooLong,
}

impl Line {
    /// Text is no number, but a long one is told apart, as in Redis.
    fn not_a_number(line: &[u8]) -> Line {
        if line.len() > LENGTH_LINE_BYTES_MAX { Line::TooLong } else { Line::Invalid }
    }
}

/// Reads `-?[0-9]+\r\n`, without leading zeros, from a place on.
fn length_line(bytes: &[u8], from: usize) -> Line {
    let line = bytes.get(from..).unwrap_or(&[]);
    let mut value: i64 = 0;
    let mut negative = false;
    for (place, byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                // A zero is followed by nothing; no number has more digits than an i64.
                if value == 0 && place > usize::from(negative) {
                    return Line::Invalid;
                }
                let digit = i64::from(byte - b'0');
                match value.checked_mul(10).and_then(|tens| tens.checked_add(digit)) {
                    Some(sum) => value = sum,
                    None => return Line::not_a_number(line),
                }
            }
            b'-' if place == 0 => negative = true,
            b'\r' => {
                let digits = place - usize::from(negative);
                return match line.get(place + 1) {
                    None => Line::Incomplete,
                    Some(b'\n') if digits > 0 => {
                        Line::Number(if negative { -value } else { value }, from + place + 2)
                    }
                    Some(_) => Line::Invalid,
                };
            }
            _ => return Line::not_a_number(line),
        }
    }
    Line::Incomplete
}

/// Redis's `sdssplitargs`: words between blanks; "..." with escapes, '...' with `\'`. What is
/// unquoted is never longer than what it stood for, so that it is written over it.
fn split_quoted(
    line: &mut [u8],
    offset: usize,
    spans: &mut Vec<Span>,
) -> Result<(), ProtocolError> {
    let mut read = 0;
    loop {
        while line.get(read).is_some_and(|byte| is_blank(*byte)) {
            read += 1;
        }
        if read >= line.len() {
            return Ok(());
        }
        let begin = read;
        let mut write = read;
        let mut quote: Option<u8> = None;
        loop {
            let byte = line.get(read).copied();
            let (value, used) = match (quote, byte) {
                (Some(_), None) => return Err(ProtocolError::UnbalancedQuotes),
                (None, None) => break,
                (None, Some(byte)) if is_blank(byte) => break,
                (None, Some(mark @ (b'"' | b'\''))) => {
                    quote = Some(mark);
                    read += 1;
                    continue;
                }
                (Some(mark), Some(byte)) if mark == byte => {
                    // A closing quote ends the argument: a blank or nothing must follow.
                    read += 1;
                    if line.get(read).is_some_and(|byte| !is_blank(*byte)) {
                        return Err(ProtocolError::UnbalancedQuotes);
                    }
                    break;
                }
                (Some(b'"'), Some(b'\\')) => unescape(line.get(read..).unwrap_or(&[])),
                (Some(b'\''), Some(b'\\')) if line.get(read + 1) == Some(&b'\'') => (b'\'', 2),
                (_, Some(byte)) => (byte, 1),
            };
            if let Some(place) = line.get_mut(write) {
                *place = value;
            }
            write += 1;
            read += used;
        }
        spans.push(Span { start: (offset + begin) as u32, length: (write - begin) as u32 });
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0)
}

/// What an escape inside "..." stands for, and how many bytes it has.
fn unescape(bytes: &[u8]) -> (u8, usize) {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    match bytes {
        [_, b'x', high, low, ..] if hex(high).is_some() && hex(low).is_some() => {
            (hex(high).unwrap_or(0) * 16 + hex(low).unwrap_or(0), 4)
        }
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (0x08, 2),
        [_, b'a', ..] => (0x07, 2),
        [_, other, ..] => (*other, 2),
        _ => (b'\\', 1),
    }
}

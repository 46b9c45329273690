//! A small blocking client of one node: one command, one reply, and a limit to the waiting.

use replication::Reply;
use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A longer line or value is no answer; bytes.
const VALUE_BYTES_MAX: u64 = 64 << 20;
/// An array of more parts is no answer.
const PARTS_MAX: usize = 1 << 20;
/// An array inside an array inside ... ends here.
const DEPTH_MAX: u32 = 8;

/// An open connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; each later wait for the node's bytes takes at most `timeout`.
    ///
    /// # Errors
    /// Where nobody listens, or nobody answers in time.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// A broken connection, a timeout, or bytes that are no reply. Whether the command had an
    /// effect is then not known, and the connection is of no use any more.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply<'static>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        reply(&mut self.stream, DEPTH_MAX)
    }
}

/// Reads one reply of RESP2.
fn reply(from: &mut impl BufRead, depth: u32) -> io::Result<Reply<'static>> {
    let line = line(from)?;
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    match kind {
        "+" if rest == "OK" => Ok(Reply::Ok),
        "+" => Ok(Reply::Simple(Cow::Owned(rest.to_owned()))),
        "-" => Ok(Reply::Error(Cow::Owned(rest.to_owned()))),
        ":" => rest.parse().map(Reply::Integer).map_err(|_| nonsense(&line)),
        "$" | "*" if rest == "-1" => Ok(Reply::Nil),
        "$" => {
            let length = rest.parse::<u64>().ok().filter(|length| *length <= VALUE_BYTES_MAX);
            bulk(from, length.ok_or_else(|| nonsense(&line))?)
        }
        "*" => {
            let count = rest.parse::<usize>().ok().filter(|count| *count <= PARTS_MAX);
            let (Some(count), Some(depth)) = (count, depth.checked_sub(1)) else {
                return Err(nonsense(&line));
            };
            let parts: io::Result<Vec<_>> = (0..count).map(|_| reply(from, depth)).collect();
            Ok(Reply::Array(parts?))
        }
        _ => Err(nonsense(&line)),
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(VALUE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    let Some(text) = bytes.strip_suffix(b"\r\n") else {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    };
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn bulk(from: &mut impl BufRead, length: u64) -> io::Result<Reply<'static>> {
    let mut bytes = Vec::new();
    from.take(length + 2).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length + 2 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    bytes.truncate(length as usize);
    Ok(Reply::Bulk(Cow::Owned(bytes)))
}

fn nonsense(line: &str) -> io::Error {
    let shown: String = line.chars().take(80).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("`{shown}` is no Redis reply"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Reply<'static>> {
        reply(&mut io::Cursor::new(bytes.to_vec()), DEPTH_MAX)
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        assert_eq!(read(b"+OK\r\n").unwrap(), Reply::Ok);
        assert_eq!(read(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(read(b"-TRYAGAIN later\r\n").unwrap(), Reply::error("TRYAGAIN later"));
        let value = Reply::Bulk(Cow::Borrowed(b"a\r\nb"));
        assert_eq!(read(b"$4\r\na\r\nb\r\n").unwrap(), value);
        let parts = Reply::Array(vec![Reply::Integer(-7), Reply::Array(vec![Reply::Nil])]);
        assert_eq!(read(b"*2\r\n:-7\r\n*1\r\n*-1\r\n").unwrap(), parts);
    }

    #[test]
    fn what_is_cut_off_or_no_reply_is_an_error() {
        let deep = "*1\r\n".repeat(20);
        let all =
            ["", "+OK", "$5\r\nab\r\n", "*2\r\n:1\r\n", "hello\r\n", "$99999999999\r\n", &deep];
        for bytes in all {
            assert!(read(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}

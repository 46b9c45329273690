//! One client of a server: a connection with a batch of requests under way.

use super::replies::{Answer, Scanner};
use super::requests::Requests;
use super::tally::{Expected, Tally};
use mio::net::TcpStream;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection. Its memory is kept from batch to batch.
pub struct Connection {
    /// Where events come from.
    pub stream: TcpStream,
    /// Which of the servers.
    pub server: usize,
    /// Nothing is sent or read any more.
    pub broken: bool,
    /// It has been given a batch, and not yet been seen to be done with it.
    pub busy: bool,
    scanner: Scanner,
    out: Vec<u8>,
    written: usize,
    /// The requests of the batch with the commands behind them, and how many are answered.
    waiting: Vec<Waiting>,
    answered: usize,
}

/// A request that is or was under way.
struct Waiting {
    expected: Expected,
    began_ns: u64,
    then: Then,
}

/// How a request and the command behind it belong together.
enum Then {
    /// No command is behind it: its answer is all.
    Nothing,
    /// A request that has another behind it, or behind the batch; it may have failed, and the
    /// other does not mend that.
    Awaited { failed: bool },
    /// The command behind so many requests, which are as good as its answer.
    Settles(usize),
}

impl Connection {
    /// Connects to one of the servers, by the first of its addresses at which it answers.
    ///
    /// # Errors
    /// Where nobody listens or answers in time, and where the system gives no more connections.
    pub fn open(server: usize, addresses: &[SocketAddr]) -> io::Result<Connection> {
        let stream = connect(addresses)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            server,
            broken: false,
            busy: false,
            scanner: Scanner::default(),
            out: Vec::new(),
            written: 0,
            waiting: Vec::new(),
            answered: 0,
        })
    }

    /// Makes the next batch, a request for each moment from which one counts.
    pub fn begin(&mut self, requests: &mut Requests, began_ns: impl Iterator<Item = u64>) {
        self.busy = true;
        self.out.clear();
        self.written = 0;
        self.waiting.clear();
        self.answered = 0;
        let mut began_ns = began_ns.peekable();
        let mut unsettled = 0;
        while let Some(began) = began_ns.next() {
            let expected = requests.append(&mut self.out);
            let then = match requests.has_then() {
                true => Then::Awaited { failed: false },
                false => Then::Nothing,
            };
            self.waiting.push(Waiting { expected, began_ns: began, then });
            unsettled += 1;
            let is_last = began_ns.peek().is_none();
            if let Some(expected) = requests.append_then(is_last, &mut self.out) {
                let then = Then::Settles(unsettled);
                self.waiting.push(Waiting { expected, began_ns: began, then });
                unsettled = 0;
            }
        }
    }

    /// Writes as much of the batch as the socket takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once; none if nothing is there.
    ///
    /// # Errors
    /// The connection is broken, or the server has closed it.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(read) => return Ok(Some(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Judges the replies in these bytes, which arrived at this moment.
    ///
    /// # Errors
    /// What is no reply, or a reply to nothing.
    pub fn take(&mut self, mut bytes: &[u8], now_ns: u64, tally: &mut Tally) -> io::Result<()> {
        while let Some(answer) = self.scanner.next(&mut bytes).map_err(nonsense)? {
            let Some(waiting) = self.waiting.get_mut(self.answered) else {
                return Err(nonsense("a reply to nothing"));
            };
            let expected = waiting.expected;
            let good = expected.is(answer, &self.scanner);
            let settled = match &mut waiting.then {
                Then::Settles(requests) => *requests,
                then => {
                    if !good {
                        tally.failed(expected, answer, &self.scanner);
                    } else if matches!(then, Then::Nothing) {
                        tally.succeeded(now_ns.saturating_sub(waiting.began_ns));
                    }
                    if let Then::Awaited { failed } = then {
                        *failed = !good;
                    }
                    0
                }
            };
            if good && answer == Answer::Nil && expected == Expected::Value {
                tally.misses += 1;
            }
            self.settle(settled, expected, answer, now_ns, tally);
            self.answered += 1;
        }
        Ok(())
    }

    /// Whether the batch is wholly answered.
    pub fn is_idle(&self) -> bool {
        self.answered == self.waiting.len()
    }

    /// Requests without an answer, those behind others included.
    pub fn unanswered(&self) -> usize {
        self.waiting.len() - self.answered
    }

    /// So many requests before the answered one are as good as its answer.
    fn settle(
        &self,
        requests: usize,
        expected: Expected,
        answer: Answer,
        now_ns: u64,
        tally: &mut Tally,
    ) {
        let good = expected.is(answer, &self.scanner);
        let first = self.answered.saturating_sub(requests);
        for waiting in self.waiting.get(first..self.answered).unwrap_or(&[]) {
            if matches!(waiting.then, Then::Awaited { failed: true }) {
                continue;
            }
            if good {
                tally.succeeded(now_ns.saturating_sub(waiting.began_ns));
            } else {
                tally.failed(expected, answer, &self.scanner);
            }
        }
    }
}

fn connect(addresses: &[SocketAddr]) -> io::Result<std::net::TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in addresses {
        match std::net::TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn nonsense(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

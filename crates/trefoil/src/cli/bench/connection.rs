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
    scanner: Scanner,
    out: Vec<u8>,
    written: usize,
    /// The requests of the batch, and how many are answered.
    waiting: Vec<Waiting>,
    answered: usize,
    /// What the command behind the batch must be answered with, while it is not.
    then: Option<Expected>,
}

/// A request that is or was under way.
struct Waiting {
    expected: Expected,
    began_ns: u64,
    /// It has had the wrong answer, and the command behind it does not mend that.
    failed: bool,
}

impl Connection {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// Where nobody listens or answers in time, and where the system gives no more connections.
    pub fn open(server: usize, address: SocketAddr) -> io::Result<Connection> {
        let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: TcpStream::from_std(stream),
            server,
            broken: false,
            scanner: Scanner::default(),
            out: Vec::new(),
            written: 0,
            waiting: Vec::new(),
            answered: 0,
            then: None,
        })
    }

    /// Makes the next batch, a request for each moment from which one counts.
    pub fn begin(&mut self, requests: &mut Requests, began_ns: impl Iterator<Item = u64>) {
        self.out.clear();
        self.written = 0;
        self.waiting.clear();
        self.answered = 0;
        for began_ns in began_ns {
            let expected = requests.append(&mut self.out);
            self.waiting.push(Waiting { expected, began_ns, failed: false });
        }
        self.then = requests.append_then(&mut self.out);
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
            match self.waiting.get_mut(self.answered) {
                Some(waiting) => {
                    self.answered += 1;
                    let good = waiting.expected.is(answer, &self.scanner);
                    waiting.failed = !good;
                    if !good {
                        tally.failed(1, answer, &self.scanner);
                    } else if self.then.is_none() {
                        tally.succeeded(now_ns.saturating_sub(waiting.began_ns));
                    }
                    if good && answer == Answer::Nil {
                        tally.misses += 1;
                    }
                }
                None => match self.then.take() {
                    Some(then) => self.take_then(then, answer, now_ns, tally),
                    None => return Err(nonsense("a reply to nothing")),
                },
            }
        }
        Ok(())
    }

    /// Whether the batch is wholly answered.
    pub fn is_idle(&self) -> bool {
        self.answered == self.waiting.len() && self.then.is_none()
    }

    /// Requests without an answer, the one behind the batch included.
    pub fn unanswered(&self) -> usize {
        self.waiting.len() - self.answered + usize::from(self.then.is_some())
    }

    /// The requests before it are as good as the answer to the command behind them.
    fn take_then(&mut self, then: Expected, answer: Answer, now_ns: u64, tally: &mut Tally) {
        let good = then.is(answer, &self.scanner);
        for waiting in self.waiting.iter().filter(|waiting| !waiting.failed) {
            if good {
                tally.succeeded(now_ns.saturating_sub(waiting.began_ns));
            } else {
                tally.failed(1, answer, &self.scanner);
            }
        }
    }
}

fn nonsense(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(what.to_string())
}

//! One client's connection.

use super::replies::Replies;
use super::{OUT_BYTES_MAX, OUT_BYTES_SOFT, OUTSTANDING_MAX, Sent};
use crate::resp::Protocol;
use crate::resp::parse::{Batch, Parsed, Parser};
use mio::net::TcpStream;
use replication::ClientId;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What CLIENT REPLY has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReplyMode {
    /// Every command is answered.
    #[default]
    On,
    /// None is.
    Off,
    /// The next one is not.
    Skip,
}

/// Commands of one read that wait: what they answer would be too much at once.
pub struct HeldBack {
    /// What the spans of the commands point into.
    pub bytes: Vec<u8>,
    /// All commands of the read.
    pub batch: Batch,
    /// What was found behind them.
    pub parsed: Parsed,
    /// The first that waits.
    pub next: usize,
}

/// One client's connection.
pub struct Client {
    /// Its name towards the core; never used twice.
    pub id: ClientId,
    /// Its name towards people: CLIENT ID.
    pub number: u64,
    /// The socket.
    pub stream: TcpStream,
    /// The other end.
    pub address: Option<SocketAddr>,
    /// When it came.
    pub since: Instant,
    /// When it last asked something.
    pub last_active: Instant,
    /// What it calls itself: CLIENT SETNAME.
    pub name: Vec<u8>,
    /// Its address and its name, as the core is told with every request.
    pub label: Arc<[u8]>,
    /// CLIENT SETINFO.
    pub library: (Vec<u8>, Vec<u8>),
    /// Its last command, for CLIENT LIST.
    pub last_command: &'static str,
    /// How it wants to be answered.
    pub protocol: Protocol,
    /// Whether it wants to be answered.
    pub reply_mode: ReplyMode,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// It has asked for the map of the cluster (CLUSTER SLOTS, SHARDS, NODES): it knows MOVED.
    pub asked_map: bool,
    /// READONLY: it knows MOVED, and wants its reads answered where it asks.
    pub read_only: bool,
    /// What has arrived of a request, if not all of it.
    pub carry: Vec<u8>,
    /// Where its parser stands.
    pub parser: Parser,
    /// What it is to be told.
    pub replies: Replies,
    /// The reply after which the connection is closed.
    pub last_sequence: Option<u64>,
    /// It may still be sending when it has been told its last: what comes is read and thrown away
    /// until it closes, for to close on it would destroy what it has not read yet.
    pub outlasts_replies: bool,
    /// It has been told its last, and so has the system.
    pub(super) is_told_all: bool,
    /// Nothing is read until its replies have gone.
    pub paused: bool,
    /// It is on the loop's list of sockets to read.
    pub ready: bool,
    /// Commands that have arrived and wait until it has taken more of its replies.
    pub held_back: Option<Box<HeldBack>>,
    /// CLIENT KILL: it is closed at the next flush, whatever it has not been told.
    pub(super) killed: bool,
    /// The other end has said that nothing more comes, or the socket has failed.
    pub ending: bool,
    /// It is on the list of clients to be told something.
    pub(super) dirty: bool,
    /// The turn in which it was last written to.
    pub(super) written_in: u64,
}

impl Client {
    pub(super) fn new(id: ClientId, number: u64, stream: TcpStream, now: Instant) -> Client {
        let address = stream.peer_addr().ok();
        Client {
            id,
            number,
            address,
            stream,
            since: now,
            last_active: now,
            name: Vec::new(),
            label: label(address, &[]),
            library: (Vec::new(), Vec::new()),
            last_command: "NULL",
            protocol: Protocol::default(),
            reply_mode: ReplyMode::default(),
            no_evict: false,
            asked_map: false,
            read_only: false,
            carry: Vec::new(),
            parser: Parser::default(),
            replies: Replies::default(),
            last_sequence: None,
            outlasts_replies: false,
            is_told_all: false,
            paused: false,
            ready: false,
            held_back: None,
            killed: false,
            ending: false,
            dirty: false,
            written_in: u64::MAX,
        }
    }

    /// The client calls itself by another name.
    pub fn rename(&mut self, name: &[u8]) {
        self.name = name.to_vec();
        self.label = label(self.address, name);
    }

    /// Takes the numbers for so many commands and returns the first; notes which are answered.
    pub fn ask(&mut self, count: usize) -> u64 {
        if self.reply_mode == ReplyMode::On {
            return self.replies.ask_many(count);
        }
        let first = self.replies.asked();
        for _ in 0..count {
            self.replies.ask(self.reply_mode != ReplyMode::On);
            if self.reply_mode == ReplyMode::Skip {
                self.reply_mode = ReplyMode::On;
            }
        }
        first
    }

    /// Whether nothing more may be read from it for now.
    pub fn is_over_soft_limits(&self) -> bool {
        self.replies.unsent() > OUT_BYTES_SOFT || self.replies.outstanding() > OUTSTANDING_MAX
    }

    /// The connection is closed once all requests so far are answered; later input is ignored.
    pub fn close_after_replies(&mut self) {
        self.last_sequence = Some(self.replies.asked());
    }

    /// One write. Also the number of bytes that the socket has taken.
    pub(super) fn flush(&mut self) -> (Sent, usize) {
        if self.killed {
            return (Sent::Close, 0);
        }
        let mut taken = 0;
        if !self.replies.ready().is_empty() {
            match self.stream.write(self.replies.ready()) {
                Ok(0) => return (Sent::Close, 0),
                Ok(bytes) => {
                    taken = bytes;
                    self.replies.advance(bytes);
                }
                // The event that it can be written again comes by itself.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return (Sent::Close, 0),
            }
        }
        let all_said = self.replies.unsent() == 0 && self.replies.outstanding() == 0;
        let is_over = self.last_sequence.is_some() && all_said;
        if self.replies.unsent() > OUT_BYTES_MAX || (is_over && !self.outlasts_replies) {
            return (Sent::Close, taken);
        }
        if is_over && !self.is_told_all {
            self.is_told_all = true;
            let ended = self.stream.shutdown(Shutdown::Write);
            return (if ended.is_ok() { Sent::Last } else { Sent::Close }, taken);
        }
        (Sent::Fine, taken)
    }

    /// Whether all that it says from now on is thrown away.
    pub fn is_told_all(&self) -> bool {
        self.is_told_all
    }
}

/// `127.0.0.1:50012 web-1`: how a client is named in reports.
fn label(address: Option<SocketAddr>, name: &[u8]) -> Arc<[u8]> {
    let mut label = address.map_or(String::from("?"), |address| address.to_string()).into_bytes();
    if !name.is_empty() {
        label.push(b' ');
        label.extend_from_slice(name);
    }
    Arc::from(label)
}

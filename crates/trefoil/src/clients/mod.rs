//! The clients' connections: accept, read buffers, replies in request order, one write a turn.
//!
//! A client's memory while it is idle is its struct alone: its read buffer exists only while a
//! request has arrived in part, its out buffer comes from a pool and goes back when it is sent.

mod client;
mod replies;
#[cfg(test)]
mod tests;

pub use client::{Client, HeldBack, ReplyMode};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use replication::{ClientId, Reply, RequestId};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::{Duration, Instant};

/// Connections at the same time, unless the configuration says otherwise: Redis's `maxclients`.
pub const CLIENTS_MAX: usize = 10_000;
/// Unsent bytes from which on nothing more is read from a client.
pub const OUT_BYTES_SOFT: usize = 1 << 20;
/// Unsent bytes at which a client is disconnected.
pub const OUT_BYTES_MAX: usize = 256 << 20;
/// Requests without a reply from which on nothing more is read from a client.
pub const OUTSTANDING_MAX: u64 = 65_536;
/// How long no connection is accepted after the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After how long the system asks a silent client's machine whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN_MAX: usize = 256;
/// Out buffers kept for reuse, and the largest that is kept.
const POOL_BUFFERS_MAX: usize = 256;
const POOL_BUFFER_BYTES_MAX: usize = 64 << 10;
/// The low bits of a [`ClientId`] are the client's place, the high ones its number.
const PLACE_BITS: u32 = 20;

/// What an attempt to send came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All of it, or as much as the socket takes now.
    Fine,
    /// All that it will ever be: what the client still says is to be thrown away until it closes.
    Last,
    /// The connection is to be closed.
    Close,
}

/// What a flush has found out about clients, by place.
#[derive(Default)]
pub struct Flushed {
    /// They can be read again.
    pub readable: Vec<usize>,
    /// They have been told their last, and may still be sending.
    pub told_all: Vec<usize>,
    /// They are to be closed.
    pub closing: Vec<usize>,
}

/// All clients of this node.
pub struct Clients {
    table: Vec<Option<Box<Client>>>,
    free: Vec<usize>,
    /// The token of the client at place 0.
    first_token: usize,
    accepted: u64,
    clients_max: usize,
    /// Places with unsent replies since the last flush.
    dirty: Vec<usize>,
    pool: Vec<Vec<u8>>,
    accept_again: Option<Instant>,
    /// Requests that were given their replies.
    pub answers: u64,
    /// Connections turned away because there were too many.
    pub rejected: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Writes to clients' sockets.
    pub writes: u64,
    /// Those that were not the first to their socket in their turn: none, or the loop is wrong.
    pub repeated_writes: u64,
}

impl Clients {
    /// No clients yet; tokens from `first_token` on are theirs.
    pub fn new(first_token: usize, clients_max: usize) -> Clients {
        Clients {
            table: Vec::new(),
            free: Vec::new(),
            first_token,
            accepted: 0,
            clients_max,
            dirty: Vec::new(),
            pool: Vec::new(),
            accept_again: None,
            answers: 0,
            rejected: 0,
            bytes_out: 0,
            writes: 0,
            repeated_writes: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len() - self.free.len()
    }

    /// How many there have been.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many there may be.
    pub fn clients_max(&self) -> usize {
        self.clients_max
    }

    /// The place of a token, if it is a client's.
    pub fn place_of(&self, token: Token) -> Option<usize> {
        token.0.checked_sub(self.first_token)
    }

    /// The client at a place.
    pub fn at(&mut self, place: usize) -> Option<&mut Client> {
        self.table.get_mut(place)?.as_deref_mut()
    }

    /// All clients, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        let mut all: Vec<&Client> = self.table.iter().flatten().map(|client| &**client).collect();
        all.sort_unstable_by_key(|client| client.number);
        all.into_iter()
    }

    /// The places of some clients, in the order in which they came.
    pub fn places_where(&self, is_meant: impl Fn(&Client) -> bool) -> Vec<usize> {
        let all = self.table.iter().enumerate();
        let found = all.filter_map(|(place, client)| Some((place, client.as_deref()?)));
        let mut found: Vec<_> = found.filter(|(_, client)| is_meant(client)).collect();
        found.sort_unstable_by_key(|(_, client)| client.number);
        found.into_iter().map(|(place, _)| place).collect()
    }

    /// A client is closed at the next flush. What it says until then is not taken any more.
    pub fn kill(&mut self, place: usize) {
        if let Some(client) = self.at(place) {
            client.killed = true;
            client.close_after_replies();
            self.touch(place);
        }
    }

    /// When accepting must be tried again without an event, if it must.
    pub fn accept_again(&self) -> Option<Instant> {
        self.accept_again
    }

    /// Takes new connections. True if there may be more of them.
    pub fn accept(&mut self, listener: &TcpListener, registry: &Registry, now: Instant) -> bool {
        self.accept_again = None;
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream, registry, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The one that was to be accepted has gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Out of file descriptors or memory: the connection stays in the backlog, and
                // asking again at once would only burn the processor.
                Err(error) => {
                    crate::operator_log::line(format_args!("cannot accept clients: {error}"));
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    return false;
                }
            }
        }
        true
    }

    fn admit(&mut self, mut stream: TcpStream, registry: &Registry, now: Instant) {
        if self.len() >= self.clients_max {
            self.rejected += 1;
            // As Redis does; whether it arrives is the client's luck.
            let _ = io::Write::write(&mut stream, b"-ERR max number of clients reached\r\n");
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            self.table.len() - 1
        });
        let token = Token(self.first_token + place);
        let _ = stream.set_nodelay(true);
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, token, interest) {
            crate::operator_log::line(format_args!("cannot poll a client: {error}"));
            self.free.push(place);
            return;
        }
        self.accepted += 1;
        let id = ClientId(self.accepted << PLACE_BITS | place as u64);
        if let Some(entry) = self.table.get_mut(place) {
            *entry = Some(Box::new(Client::new(id, self.accepted, stream, now)));
        }
    }

    /// Gives a client's request its reply. A reply to one who has gone is nobody's.
    pub fn reply(&mut self, request: RequestId, reply: &Reply<'_>) {
        self.answer(request, |out, protocol| crate::resp::encode::reply(out, reply, protocol));
    }

    /// Gives a client's request the reply that `encode` writes.
    pub fn answer(
        &mut self,
        request: RequestId,
        encode: impl FnOnce(&mut Vec<u8>, crate::resp::Protocol),
    ) {
        let place = (request.client.0 & ((1 << PLACE_BITS) - 1)) as usize;
        let client = self.table.get_mut(place).and_then(Option::as_deref_mut);
        let Some(client) = client.filter(|client| client.id == request.client) else { return };
        self.answers += 1;
        if client.replies.is_bare()
            && let Some(buffer) = self.pool.pop()
        {
            client.replies.lend(buffer);
        }
        client.replies.answer(request.sequence, encode);
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    /// A client's socket can take more: what is unsent goes at the next flush.
    pub fn touch_unsent(&mut self, place: usize) {
        if self.at(place).is_some_and(|client| client.replies.unsent() > 0) {
            self.touch(place);
        }
    }

    /// A client must be looked at at the next flush.
    pub fn touch(&mut self, place: usize) {
        if let Some(client) = self.table.get_mut(place).and_then(Option::as_deref_mut)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(place);
        }
    }

    /// One write for each client that has something to be told, in this turn.
    pub fn flush(&mut self, turn: u64, flushed: &mut Flushed) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for place in dirty.drain(..) {
            let Some(client) = self.table.get_mut(place).and_then(Option::as_deref_mut) else {
                continue;
            };
            client.dirty = false;
            if !client.replies.ready().is_empty() {
                self.writes += 1;
                self.repeated_writes += u64::from(client.written_in == turn);
                client.written_in = turn;
            }
            let (sent, bytes) = client.flush();
            self.bytes_out += bytes as u64;
            match sent {
                Sent::Fine => {}
                Sent::Last => flushed.told_all.push(place),
                Sent::Close => {
                    flushed.closing.push(place);
                    continue;
                }
            }
            if let Some(buffer) = client.replies.take_sent_buffer()
                && self.pool.len() < POOL_BUFFERS_MAX
                && buffer.capacity() <= POOL_BUFFER_BYTES_MAX
            {
                self.pool.push(buffer);
            }
            if client.paused && !client.is_over_soft_limits() {
                client.paused = false;
                flushed.readable.push(place);
            }
        }
        self.dirty = dirty;
    }

    /// Closes a connection and returns whose it was.
    pub fn close(&mut self, place: usize, registry: &Registry) -> Option<ClientId> {
        let mut client = self.table.get_mut(place)?.take()?;
        let _ = registry.deregister(&mut client.stream);
        self.free.push(place);
        Some(client.id)
    }
}

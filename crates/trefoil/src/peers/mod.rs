//! The other nodes: one connection to each, used both ways. A broken one is dialled again with a
//! growing pause. All messages of a turn to one peer are one frame and one write.
//!
//! Who dials in is a stranger until his first frame has named him; then the connection is the
//! link to that node, or is turned away. `link.rs` tells which, where both nodes have dialled.

mod connection;
mod link;
#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use link::Link;

use link::{GREETING_TIMEOUT, Taken};
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use replication::frame::FrameError;
use replication::{Incarnation, Message, NodeId};
use socket2::SockRef;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Refused connections are told of once for each address and reason, and for so many of them.
const REFUSALS_TOLD_MAX: usize = 256;
/// Unsent bytes to one peer beyond which its connection is given up: the core repeats what matters.
pub const UNSENT_BYTES_MAX: usize = 64 << 20;
/// How long no connection is accepted after the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What this node says about itself in every frame.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster, as [`replication::frame::cluster_digest`] of its name.
    pub cluster: u64,
    /// This node.
    pub me: NodeId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// Bytes of a frame's payload.
    pub payload_bytes_max: usize,
    /// Unsent bytes to one peer beyond which its connection is given up.
    pub unsent_bytes_max: usize,
}

/// Who says what a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The node whose connection it is, as before.
    Known,
    /// A node that greets on this connection: its place is another from now on. `replaced`: a
    /// connection that seemed to stand has been closed for it.
    Greeting {
        /// Where the connection is.
        place: usize,
        /// What was on its way over the older one may be lost.
        replaced: bool,
    },
    /// A node that has another connection: this one is closed.
    Unwanted,
    /// Nobody who may.
    Refused,
}

/// Who has dialled in and has not said who he is.
struct Stranger {
    connection: Connection,
    /// Then he has said nothing for too long.
    until: Instant,
}

/// All connections to and from other nodes.
pub struct Peers {
    identity: Identity,
    /// In the members' order; their places are the first.
    links: Vec<Link>,
    /// Who has dialled in and has not said who he is; their places follow.
    strangers: Vec<Option<Stranger>>,
    /// When the first of them may have said nothing for too long.
    strangers_due: Option<Instant>,
    /// The token of place 0.
    first_token: usize,
    told: BTreeSet<(IpAddr, FrameError)>,
    /// When accepting must be tried again without an event.
    accept_again: Option<Instant>,
    /// Connections closed because of what came over them.
    pub refused: u64,
    /// Connections closed before a frame came: none did in time, or too many were waiting for one.
    pub without_word: u64,
}

impl Peers {
    /// Dials nobody yet. `addresses` are all members', this node's own included, in their order;
    /// tokens from `first_token` on are its own.
    pub fn new(identity: Identity, addresses: &[SocketAddr], first_token: usize) -> Peers {
        let me = usize::from(identity.me.0);
        let own_ip = addresses.get(me).map(SocketAddr::ip);
        let link = |(number, address): (u16, &SocketAddr)| {
            let token = Token(first_token + usize::from(number));
            Link::new(NodeId(number), *address, own_ip, token, &identity)
        };
        // One for each peer while it replaces another, and some for whoever is mistaken.
        let strangers = addresses.len() * 2 + 16;
        Peers {
            identity,
            links: (0u16..).zip(addresses).map(link).collect(),
            strangers: (0..strangers).map(|_| None).collect(),
            strangers_due: None,
            first_token,
            told: BTreeSet::new(),
            accept_again: None,
            refused: 0,
            without_word: 0,
        }
    }

    /// The first token that is not its own.
    pub fn tokens_end(&self) -> usize {
        self.first_token + self.links.len() + self.strangers.len()
    }

    /// What this node says about itself.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The disk's number is known only when the node has been opened.
    pub fn set_incarnation(&mut self, incarnation: Incarnation) {
        self.identity.incarnation = incarnation;
    }

    /// Whether this node's connection to that one stands.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.links.get(usize::from(node.0)).is_some_and(Link::is_up)
    }

    /// Adds a message to the frame of this turn.
    pub fn send(&mut self, to: NodeId, message: &Message<'_>) {
        if let Some(link) = self.links.get_mut(usize::from(to.0)) {
            link.send(message, &self.identity);
        }
    }

    /// One write for each peer that is to be told something, in this turn. Gives those that were
    /// lost.
    pub fn flush(&mut self, turn: u64, now: Instant, registry: &Registry, lost: &mut Vec<NodeId>) {
        for (number, link) in self.links.iter_mut().enumerate() {
            if link.flush(turn, now, registry) {
                lost.push(NodeId(number as u16));
            }
        }
    }

    /// Writes to peers' sockets.
    pub fn writes(&self) -> u64 {
        self.links.iter().map(|link| link.writes().all).sum()
    }

    /// Those that were not the first to their peer in their turn.
    pub fn repeated_writes(&self) -> u64 {
        self.links.iter().map(|link| link.writes().repeated).sum()
    }

    /// Nodes that a client's command was to go to, while there was no connection.
    pub fn unreached(&mut self) -> Vec<NodeId> {
        let numbered = (0u16..).zip(&mut self.links);
        let unreached = numbered.filter_map(|(n, link)| link.take_unsent_command().then_some(n));
        unreached.map(NodeId).collect()
    }

    /// When something here must be done without an event, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        let links = self.links.iter().filter_map(Link::deadline);
        links.chain(self.strangers_due).chain(self.accept_again).min()
    }

    /// Dials whom it is time to dial, and closes on strangers who say nothing.
    pub fn dial(&mut self, now: Instant, registry: &Registry) {
        for link in &mut self.links {
            link.dial(now, registry);
        }
        if self.strangers_due.is_some_and(|due| due <= now) {
            for entry in &mut self.strangers {
                if let Some(mut silent) = entry.take_if(|stranger| stranger.until <= now) {
                    self.without_word += 1;
                    let _ = registry.deregister(&mut silent.connection.stream);
                }
            }
            self.strangers_due = self.strangers.iter().flatten().map(|s| s.until).min();
        }
    }

    /// The place of a token, if it is a peer's.
    pub fn place_of(&self, token: Token) -> Option<usize> {
        let place = token.0.checked_sub(self.first_token)?;
        (place < self.links.len() + self.strangers.len()).then_some(place)
    }

    /// Something happened on the connection at a place: if it was on its way, it may stand now.
    pub fn event(&mut self, place: usize, now: Instant, registry: &Registry) {
        if let Some(link) = self.links.get_mut(place) {
            link.event(now, registry, &self.identity);
        }
    }

    /// Whether accepting must be tried again now.
    pub fn is_accept_due(&self, now: Instant) -> bool {
        self.accept_again.is_some_and(|again| again <= now)
    }

    /// Takes new connections from peers.
    pub fn accept(&mut self, listener: &TcpListener, registry: &Registry, now: Instant) {
        self.accept_again = None;
        loop {
            match listener.accept() {
                Ok((mut stream, address)) => {
                    let Some(free) = self.strangers.iter().position(Option::is_none) else {
                        self.without_word += 1;
                        continue;
                    };
                    connection::tune(&SockRef::from(&stream));
                    let token = Token(self.first_token + self.links.len() + free);
                    if registry.register(&mut stream, token, Interest::READABLE).is_ok()
                        && let Some(entry) = self.strangers.get_mut(free)
                    {
                        let connection = Connection::new(stream, address);
                        let until = now + GREETING_TIMEOUT;
                        *entry = Some(Stranger { connection, until });
                        self.strangers_due = self.strangers_due.or(Some(until));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Out of file descriptors: the peer waits in the backlog, and no event will tell.
                Err(_) => {
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// The connection at a place, if there is one that can be read.
    pub fn connection(&mut self, place: usize) -> Option<&mut Connection> {
        match place.checked_sub(self.links.len()) {
            None => self.links.get_mut(place)?.connection(),
            Some(stranger) => {
                self.strangers.get_mut(stranger)?.as_mut().map(|stranger| &mut stranger.connection)
            }
        }
    }

    /// A frame has named its sender: may it?
    pub fn admit(
        &mut self,
        place: usize,
        node: NodeId,
        now: Instant,
        registry: &Registry,
    ) -> Admission {
        let home = usize::from(node.0);
        if home >= self.links.len() || node == self.identity.me {
            return Admission::Refused;
        }
        let Some(stranger) = place.checked_sub(self.links.len()) else {
            let Some(link) = self.links.get_mut(place).filter(|_| place == home) else {
                return Admission::Refused;
            };
            link.answered(now);
            return Admission::Known;
        };
        let stranger = self.strangers.get_mut(stranger).and_then(Option::take);
        let (Some(stranger), Some(link)) = (stranger, self.links.get_mut(home)) else {
            return Admission::Unwanted;
        };
        match link.take(stranger.connection, registry, &self.identity) {
            Some(taken) => {
                Admission::Greeting { place: home, replaced: taken == Taken::InPlaceOfAnother }
            }
            None => Admission::Unwanted,
        }
    }

    /// Closes a connection because of what came over it. Gives the node whose it was, if it stood.
    pub fn refuse(
        &mut self,
        place: usize,
        error: FrameError,
        now: Instant,
        registry: &Registry,
    ) -> Option<NodeId> {
        self.refused += 1;
        if let Some(connection) = self.connection(place) {
            let address = connection.address;
            if self.told.len() < REFUSALS_TOLD_MAX && self.told.insert((address.ip(), error)) {
                crate::operator_log::line(format_args!("peer {address} refused: {error}"));
            }
        }
        self.close(place, now, registry)
    }

    /// Closes a connection. Gives the node whose it was, if it stood.
    pub fn close(&mut self, place: usize, now: Instant, registry: &Registry) -> Option<NodeId> {
        match place.checked_sub(self.links.len()) {
            None => {
                let lost = self.links.get_mut(place)?.lose(now, registry);
                lost.then_some(NodeId(place as u16))
            }
            Some(stranger) => {
                let mut stranger = self.strangers.get_mut(stranger)?.take()?;
                let _ = registry.deregister(&mut stranger.connection.stream);
                None
            }
        }
    }
}

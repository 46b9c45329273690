//! The other nodes. Every node dials every other one: what it says goes over the connection that
//! it dialled, what it hears comes over those that it accepted. A broken one is dialled again
//! with a growing pause. All messages of a turn to one peer are one frame and one write.

mod inbound;
mod link;
#[cfg(test)]
mod tests;

pub use inbound::Inbound;
pub use link::Link;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use replication::frame::FrameError;
use replication::{Incarnation, Message, NodeId};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Refused connections are told of once for each address and reason, and for so many of them.
const REFUSALS_TOLD_MAX: usize = 256;
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
}

/// All connections to and from other nodes.
pub struct Peers {
    identity: Identity,
    links: Vec<Link>,
    first_link_token: usize,
    inbound: Vec<Option<Inbound>>,
    first_inbound_token: usize,
    told: BTreeSet<(IpAddr, FrameError)>,
    /// When accepting must be tried again without an event.
    accept_again: Option<Instant>,
    /// Connections closed because of what came over them.
    pub refused: u64,
}

impl Peers {
    /// Dials nobody yet. `addresses` are all members', this node's own included, in their order;
    /// tokens from `first_token` on are its own.
    pub fn new(identity: Identity, addresses: &[SocketAddr], first_token: usize) -> Peers {
        let me = usize::from(identity.me.0);
        let own_ip = addresses.get(me).map(SocketAddr::ip);
        let link = |(number, address): (usize, &SocketAddr)| {
            Link::new(*address, own_ip, Token(first_token + number), number != me)
        };
        // Two for each peer while one replaces the other, and some for whoever is mistaken.
        let inbound = addresses.len() * 2 + 16;
        Peers {
            identity,
            links: addresses.iter().enumerate().map(link).collect(),
            first_link_token: first_token,
            inbound: (0..inbound).map(|_| None).collect(),
            first_inbound_token: first_token + addresses.len(),
            told: BTreeSet::new(),
            accept_again: None,
            refused: 0,
        }
    }

    /// The first token that is not its own.
    pub fn tokens_end(&self) -> usize {
        self.first_inbound_token + self.inbound.len()
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

    /// One write for each peer that is to be told something. Gives those that were lost.
    pub fn flush(&mut self, now: Instant, registry: &Registry, lost: &mut Vec<NodeId>) {
        for (number, link) in self.links.iter_mut().enumerate() {
            if link.flush(now, registry) {
                lost.push(NodeId(number as u16));
            }
        }
    }

    /// Writes to peers' sockets.
    pub fn writes(&self) -> u64 {
        self.links.iter().map(Link::writes).sum()
    }

    /// Nodes that a client's command was to go to, while there was no connection.
    pub fn unreached(&mut self) -> Vec<NodeId> {
        let numbered = (0u16..).zip(&mut self.links);
        let unreached = numbered.filter_map(|(n, link)| link.take_unsent_command().then_some(n));
        unreached.map(NodeId).collect()
    }

    /// When something here must be done without an event, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.links.iter().filter_map(Link::deadline).chain(self.accept_again).min()
    }

    /// Dials whom it is time to dial.
    pub fn dial(&mut self, now: Instant, registry: &Registry) {
        for link in &mut self.links {
            link.dial(now, registry);
        }
    }

    /// The node of a token, if it is a dialled connection's.
    pub fn link_of(&self, token: Token) -> Option<NodeId> {
        let number = token.0.checked_sub(self.first_link_token)?;
        (number < self.links.len()).then_some(NodeId(number as u16))
    }

    /// Something happened on a dialled connection. True if a standing one is lost.
    pub fn link_event(&mut self, node: NodeId, now: Instant, registry: &Registry) -> bool {
        self.links.get_mut(usize::from(node.0)).is_some_and(|link| link.event(now, registry))
    }

    /// The place of a token, if it is an accepted connection's.
    pub fn place_of(&self, token: Token) -> Option<usize> {
        let place = token.0.checked_sub(self.first_inbound_token)?;
        (place < self.inbound.len()).then_some(place)
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
                    let Some(place) = self.inbound.iter().position(Option::is_none) else {
                        self.refused += 1;
                        continue;
                    };
                    let _ = stream.set_nodelay(true);
                    inbound::keep_alive(&stream);
                    let token = Token(self.first_inbound_token + place);
                    if registry.register(&mut stream, token, Interest::READABLE).is_ok()
                        && let Some(entry) = self.inbound.get_mut(place)
                    {
                        *entry = Some(Inbound::new(stream, address));
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

    /// The accepted connection at a place.
    pub fn inbound(&mut self, place: usize) -> Option<&mut Inbound> {
        self.inbound.get_mut(place)?.as_mut()
    }

    /// A frame has named its sender: may it? An older connection of the same peer is closed, for
    /// it can only be one that has broken without our knowing.
    pub fn admit(&mut self, place: usize, node: NodeId, registry: &Registry) -> bool {
        if usize::from(node.0) >= self.links.len() || node == self.identity.me {
            return false;
        }
        if self.inbound(place).is_some_and(|inbound| inbound.node == Some(node)) {
            return true;
        }
        let older = |entry: &Option<Inbound>| entry.as_ref().is_some_and(|i| i.node == Some(node));
        if let Some(older) = self.inbound.iter().position(older) {
            self.close(older, registry);
        }
        if let Some(inbound) = self.inbound(place) {
            if inbound.node.is_some() {
                return false;
            }
            inbound.node = Some(node);
        }
        true
    }

    /// Closes an accepted connection because of what came over it.
    pub fn refuse(&mut self, place: usize, error: FrameError, registry: &Registry) {
        self.refused += 1;
        if let Some(inbound) = self.inbound(place) {
            let address = inbound.address;
            if self.told.len() < REFUSALS_TOLD_MAX && self.told.insert((address.ip(), error)) {
                crate::operator_log::line(format_args!("peer {address} refused: {error}"));
            }
        }
        self.close(place, registry);
    }

    /// Closes an accepted connection.
    pub fn close(&mut self, place: usize, registry: &Registry) {
        if let Some(mut inbound) = self.inbound.get_mut(place).and_then(Option::take) {
            let _ = registry.deregister(&mut inbound.stream);
        }
    }
}

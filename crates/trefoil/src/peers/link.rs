//! The one connection to one peer. Both nodes dial while there is none; frames go both ways over
//! whichever connection is taken.
//!
//! A connection counts when both have said who they are: whoever has dialled greets with a frame,
//! which may be empty, and the other one answers with a frame. Where both have dialled at once,
//! the node with the smaller number decides: once it has greeted, it turns the other's connection
//! away; until then, it takes it. The other node takes whatever it is greeted on. So both come to
//! the same, and one that can be dialled but cannot dial is connected all the same.
//!
//! Nobody dials who has a connection. A greeting from a peer whose connection seems to stand
//! therefore tells that it is broken, and the new one takes its place.

use super::Identity;
use super::connection::{self, Connection};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use replication::frame;
use replication::node::message::Message as NodeMessage;
use replication::{Message, NodeId};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The pause before a peer is dialled again: doubled from the first to the last. The node that
/// does not decide begins with twice the first, so that the two seldom dial at once.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take to come about: the system alone would try for two minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a greeting may stay unanswered, or out. A node that is still reading its log does not
/// answer.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Greetings without an answer, one after the other, from which on the operator is told.
const UNANSWERED_TOLD: u32 = 4;
/// An out buffer larger than this is given back when it is empty.
const OUT_BYTES_KEPT: usize = 1 << 20;

enum State {
    /// This node itself: never dialled.
    Own,
    /// To be dialled at this moment.
    Down(Instant),
    /// On its way, until this moment.
    Connecting(TcpStream, Instant),
    /// Dialled and greeted; the peer may answer until this moment.
    Greeting(Connection, Instant),
    /// It stands.
    Up(Connection),
}

/// What becomes of a connection on which a peer has greeted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// It is the connection to that peer from now on.
    Only,
    /// The same, and another one that seemed to stand has been closed for it.
    InPlaceOfAnother,
}

/// The connection to one peer.
pub struct Link {
    address: SocketAddr,
    /// Where it comes from, so that one firewall rule cuts this node off.
    own_ip: Option<IpAddr>,
    token: Token,
    /// This node's number is the smaller one.
    decides: bool,
    state: State,
    pause: Duration,
    out: Vec<u8>,
    sent: usize,
    /// Where this turn's frame starts in `out`.
    frame: Option<usize>,
    /// Whether a client's command was to go out and could not: nobody else would tell.
    unsent_command: bool,
    /// More was to be sent than the peer takes: the connection is given up, so that both ends know
    /// that something is missing.
    overflown: bool,
    /// Greetings since the last answer.
    unanswered: u32,
    /// Messages that no frame has room for.
    dropped: u64,
    /// Writes to the socket.
    writes: Writes,
}

/// Writes to peers' sockets.
#[derive(Clone, Copy, Default, Debug)]
pub struct Writes {
    /// All.
    pub all: u64,
    /// Those that were not the first to their peer in their turn: none, or the loop is wrong.
    pub repeated: u64,
    /// The turn of the last.
    last_turn: Option<u64>,
}

impl Writes {
    fn count(&mut self, turn: u64) {
        self.all += 1;
        self.repeated += u64::from(self.last_turn == Some(turn));
        self.last_turn = Some(turn);
    }
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        address: SocketAddr,
        own_ip: Option<IpAddr>,
        token: Token,
        identity: &Identity,
    ) -> Link {
        let own = node == identity.me;
        let mut link = Link {
            address,
            own_ip,
            token,
            decides: identity.me < node,
            state: if own { State::Own } else { State::Down(Instant::now()) },
            pause: PAUSE_MIN,
            out: Vec::new(),
            sent: 0,
            frame: None,
            unsent_command: false,
            overflown: false,
            unanswered: 0,
            dropped: 0,
            writes: Writes::default(),
        };
        link.pause = link.first_pause();
        link
    }

    fn first_pause(&self) -> Duration {
        if self.decides { PAUSE_MIN } else { PAUSE_MIN * 2 }
    }

    /// Whether frames go out.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// How often it was written to.
    pub(super) fn writes(&self) -> Writes {
        self.writes
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Own | State::Up(_) => None,
            State::Down(until) | State::Connecting(_, until) | State::Greeting(_, until) => {
                Some(*until)
            }
        }
    }

    /// What can be read from.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Greeting(connection, _) | State::Up(connection) => Some(connection),
            State::Own | State::Down(_) | State::Connecting(..) => None,
        }
    }

    pub(super) fn send(&mut self, message: &Message<'_>, identity: &Identity) {
        if !self.is_up() || self.overflown {
            self.note_unsent(message);
            return;
        }
        if self.frame.is_none() {
            if self.out.len() - self.sent > identity.unsent_bytes_max {
                self.overflown = true;
                self.note_unsent(message);
                return;
            }
            self.begin(identity);
        }
        let (before, Some(start)) = (self.out.len(), self.frame) else { return };
        let bytes = frame::push(&mut self.out, message);
        if self.out.len() - start <= identity.payload_bytes_max {
            return;
        }
        // The frame is full: the message goes into one of its own, if it fits there.
        let rest = self.out.split_off(before);
        frame::finish(&mut self.out, start);
        self.frame = None;
        if bytes + frame::PAYLOAD_OVERHEAD > identity.payload_bytes_max {
            self.note_unsent(message);
            self.drop_one();
            return;
        }
        self.begin(identity);
        self.out.extend_from_slice(&rest);
    }

    fn begin(&mut self, identity: &Identity) {
        self.frame = Some(self.out.len());
        frame::begin(&mut self.out, identity.cluster, identity.me, identity.incarnation);
    }

    fn note_unsent(&mut self, message: &Message<'_>) {
        self.unsent_command |= matches!(message, Message::Node(NodeMessage::Forward { .. }));
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            let (address, dropped) = (self.address, self.dropped);
            crate::operator_log::line(format_args!(
                "messages for peer {address} that are longer than a frame: {dropped} dropped so far"
            ));
        }
    }

    /// Whether a client's command could not be sent since the last question.
    pub(super) fn take_unsent_command(&mut self) -> bool {
        std::mem::take(&mut self.unsent_command)
    }

    /// One write, in this turn. True if a standing connection is lost.
    pub(super) fn flush(&mut self, turn: u64, now: Instant, registry: &Registry) -> bool {
        if let Some(start) = self.frame.take() {
            frame::finish(&mut self.out, start);
        }
        let (State::Greeting(connection, _) | State::Up(connection)) = &mut self.state else {
            return false;
        };
        let Some(unsent) = self.out.get(self.sent..).filter(|unsent| !unsent.is_empty()) else {
            return false;
        };
        self.writes.count(turn);
        match connection.stream.write(unsent) {
            Ok(0) => return self.lose(now, registry),
            Ok(bytes) => self.sent += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return self.lose(now, registry),
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            if self.out.capacity() > OUT_BYTES_KEPT {
                self.out = Vec::new();
            }
        } else if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.overflown {
            let (address, unsent) = (self.address, self.out.len() - self.sent);
            crate::operator_log::line(format_args!(
                "peer {address} takes less than it is sent: closed with {unsent} bytes unsent"
            ));
            return self.lose(now, registry);
        }
        false
    }

    /// Dials, if it is time; gives up what has taken too long.
    pub(super) fn dial(&mut self, now: Instant, registry: &Registry) {
        match &self.state {
            State::Connecting(_, until) | State::Greeting(_, until) if *until <= now => {
                self.lose(now, registry);
            }
            State::Down(until) if *until <= now => match self.connect(registry) {
                Ok(stream) => self.state = State::Connecting(stream, now + CONNECT_TIMEOUT),
                Err(_) => {
                    self.lose(now, registry);
                }
            },
            _ => {}
        }
    }

    fn connect(&self, registry: &Registry) -> io::Result<TcpStream> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        connection::tune(&SockRef::from(&socket));
        if let Some(ip) = self.own_ip.filter(|ip| ip.is_ipv4() == self.address.is_ipv4()) {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if is_in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, self.token, interest)?;
        Ok(stream)
    }

    /// Something happened on the socket: a dialled one may stand now, and is greeted on.
    pub(super) fn event(&mut self, now: Instant, registry: &Registry, identity: &Identity) {
        let State::Connecting(stream, _) = &mut self.state else { return };
        if matches!(SockRef::from(&*stream).take_error(), Ok(None)) {
            match (stream.peer_addr(), stream.local_addr()) {
                // Dialling a free local port can meet oneself.
                (Ok(theirs), Ok(ours)) if theirs == ours => {}
                (Ok(_), Ok(_)) => return self.greet(now, identity),
                (Err(error), _) if error.kind() == ErrorKind::NotConnected => return,
                _ => {}
            }
        }
        self.lose(now, registry);
    }

    fn greet(&mut self, now: Instant, identity: &Identity) {
        let state = std::mem::replace(&mut self.state, State::Down(now));
        if let State::Connecting(stream, _) = state {
            let connection = Connection::new(stream, self.address);
            self.state = State::Greeting(connection, now + GREETING_TIMEOUT);
            self.begin(identity);
        }
    }

    /// The peer has said something on the connection that this node has dialled.
    pub(super) fn answered(&mut self, now: Instant) {
        if matches!(self.state, State::Greeting(..)) {
            let state = std::mem::replace(&mut self.state, State::Down(now));
            if let State::Greeting(connection, _) = state {
                self.stand(connection);
            }
        }
    }

    /// The peer has greeted on a connection that it has dialled. `None`: it is not wanted.
    pub(super) fn take(
        &mut self,
        mut connection: Connection,
        registry: &Registry,
        identity: &Identity,
    ) -> Option<Taken> {
        let is_late = connection.ending;
        let is_second = self.decides && matches!(self.state, State::Greeting(..));
        let interest = Interest::READABLE | Interest::WRITABLE;
        if is_late
            || is_second
            || matches!(self.state, State::Own)
            || registry.reregister(&mut connection.stream, self.token, interest).is_err()
        {
            let _ = registry.deregister(&mut connection.stream);
            return None;
        }
        let stood = self.shut(registry);
        self.stand(connection);
        self.begin(identity);
        Some(if stood { Taken::InPlaceOfAnother } else { Taken::Only })
    }

    fn stand(&mut self, connection: Connection) {
        self.state = State::Up(connection);
        self.pause = self.first_pause();
        self.unanswered = 0;
    }

    /// Closes and plans the next attempt. True if the connection stood.
    pub(super) fn lose(&mut self, now: Instant, registry: &Registry) -> bool {
        if matches!(self.state, State::Own) {
            return false;
        }
        if matches!(self.state, State::Greeting(..)) {
            self.tell_unanswered();
        }
        let stood = self.shut(registry);
        self.state = State::Down(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        stood
    }

    fn tell_unanswered(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered >= UNANSWERED_TOLD && self.unanswered.is_power_of_two() {
            let (address, times) = (self.address, self.unanswered);
            crate::operator_log::line(format_args!(
                "peer {address} can be dialled and does not answer, {times} times so far: see what \
                 it says about this node"
            ));
        }
    }

    /// Closes what there is. True if it stood.
    fn shut(&mut self, registry: &Registry) -> bool {
        self.out = Vec::new();
        self.sent = 0;
        self.frame = None;
        self.overflown = false;
        match &mut self.state {
            State::Up(connection) => {
                let _ = registry.deregister(&mut connection.stream);
                true
            }
            State::Greeting(connection, _) => {
                let _ = registry.deregister(&mut connection.stream);
                false
            }
            State::Connecting(stream, _) => {
                let _ = registry.deregister(stream);
                false
            }
            State::Own | State::Down(_) => false,
        }
    }
}

/// `EINPROGRESS`, which has no stable `ErrorKind`.
fn is_in_progress(error: &io::Error) -> bool {
    const EINPROGRESS_LINUX: i32 = 115;
    const EINPROGRESS_BSD: i32 = 36;
    let number = if cfg!(target_os = "linux") { EINPROGRESS_LINUX } else { EINPROGRESS_BSD };
    error.raw_os_error() == Some(number)
}

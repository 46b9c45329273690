//! The connection that this node dials to one peer: frames go out.

use super::Identity;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use replication::Message;
use replication::frame;
use replication::node::message::Message as NodeMessage;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Unsent bytes to one peer beyond which new frames are dropped: the core repeats what matters.
const OUT_BYTES_MAX: usize = 64 << 20;
/// The pause before a broken connection is dialled again: doubled from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take to come about: the system alone would try for two minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long sent bytes may stay unacknowledged. Without it a connection that a partition has
/// silenced would repeat them ever more seldom, and stay silent long after the partition.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// An out buffer larger than this is given back when it is empty.
const OUT_BYTES_KEPT: usize = 1 << 20;

enum State {
    /// This node itself: never dialled.
    Own,
    /// To be dialled at this moment.
    Down(Instant),
    /// On its way.
    Connecting(TcpStream, Instant),
    /// It stands.
    Up(TcpStream),
}

/// The connection to one peer.
pub struct Link {
    address: SocketAddr,
    /// Where it comes from, so that one firewall rule cuts this node off.
    own_ip: Option<IpAddr>,
    token: Token,
    state: State,
    pause: Duration,
    out: Vec<u8>,
    sent: usize,
    /// Where this turn's frame starts in `out`.
    frame: Option<usize>,
    /// Whether a client's command was to go out and could not: nobody else would tell.
    unsent_command: bool,
    /// Frames that were dropped because too much was unsent.
    dropped: u64,
    /// Writes to the socket.
    writes: u64,
}

impl Link {
    pub(super) fn new(
        address: SocketAddr,
        own_ip: Option<IpAddr>,
        token: Token,
        is_other: bool,
    ) -> Link {
        let state = if is_other { State::Down(Instant::now()) } else { State::Own };
        Link {
            address,
            own_ip,
            token,
            state,
            pause: PAUSE_MIN,
            out: Vec::new(),
            sent: 0,
            frame: None,
            unsent_command: false,
            dropped: 0,
            writes: 0,
        }
    }

    /// Whether frames go out.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// How often it was written to.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Own | State::Up(_) => None,
            State::Down(until) | State::Connecting(_, until) => Some(*until),
        }
    }

    pub(super) fn send(&mut self, message: &Message<'_>, identity: &Identity) {
        if !self.is_up() {
            let is_command = matches!(message, Message::Node(NodeMessage::Forward { .. }));
            self.unsent_command |= is_command;
            return;
        }
        if self.frame.is_none() {
            if self.out.len() - self.sent > OUT_BYTES_MAX {
                self.drop_one();
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

    fn drop_one(&mut self) {
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            let (address, dropped) = (self.address, self.dropped);
            crate::operator_log::line(format_args!(
                "peer {address} takes less than it is sent: {dropped} messages dropped so far"
            ));
        }
    }

    /// Whether a client's command could not be sent since the last question.
    pub(super) fn take_unsent_command(&mut self) -> bool {
        std::mem::take(&mut self.unsent_command)
    }

    /// One write. True if the connection is lost.
    pub(super) fn flush(&mut self, now: Instant, registry: &Registry) -> bool {
        if let Some(start) = self.frame.take() {
            frame::finish(&mut self.out, start);
        }
        let State::Up(stream) = &mut self.state else { return false };
        let Some(unsent) = self.out.get(self.sent..).filter(|unsent| !unsent.is_empty()) else {
            return false;
        };
        self.writes += 1;
        match stream.write(unsent) {
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
        false
    }

    /// Dials, if it is time.
    pub(super) fn dial(&mut self, now: Instant, registry: &Registry) {
        match &self.state {
            State::Connecting(_, until) if *until <= now => {
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
        socket.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
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

    /// Something happened on the socket. True if a standing connection is lost.
    pub(super) fn event(&mut self, now: Instant, registry: &Registry) -> bool {
        match &mut self.state {
            State::Own | State::Down(_) => false,
            State::Connecting(stream, _) => {
                if matches!(SockRef::from(&*stream).take_error(), Ok(None)) {
                    match (stream.peer_addr(), stream.local_addr()) {
                        // Dialling a free local port can meet oneself.
                        (Ok(theirs), Ok(ours)) if theirs == ours => {}
                        (Ok(_), Ok(_)) => {
                            self.stand();
                            return false;
                        }
                        (Err(error), _) if error.kind() == ErrorKind::NotConnected => return false,
                        _ => {}
                    }
                }
                self.lose(now, registry);
                false
            }
            State::Up(stream) => {
                // The peer says nothing on this connection: what can be read is its end.
                let mut byte = [0u8; 1];
                match stream.read(&mut byte) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => false,
                    _ => self.lose(now, registry),
                }
            }
        }
    }

    fn stand(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Own);
        if let State::Connecting(stream, _) = state {
            self.state = State::Up(stream);
            self.pause = PAUSE_MIN;
        }
    }

    /// Closes and plans the next attempt. True if the connection stood.
    fn lose(&mut self, now: Instant, registry: &Registry) -> bool {
        let state = std::mem::replace(&mut self.state, State::Down(now + self.pause));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.out = Vec::new();
        self.sent = 0;
        self.frame = None;
        match state {
            State::Up(mut stream) => {
                let _ = registry.deregister(&mut stream);
                true
            }
            State::Connecting(mut stream, _) => {
                let _ = registry.deregister(&mut stream);
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

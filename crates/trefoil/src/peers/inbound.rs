//! A connection that a peer has dialled: frames come in.

use super::link::USER_TIMEOUT;
use mio::net::TcpStream;
use replication::NodeId;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;

/// A connection that a peer has dialled.
pub struct Inbound {
    /// The socket.
    pub stream: TcpStream,
    /// The other end.
    pub address: SocketAddr,
    /// What has arrived of a frame, if not all of it.
    pub carry: Vec<u8>,
    /// Whose it is: what its first frame said.
    pub node: Option<NodeId>,
    /// It is on the loop's list of sockets to read.
    pub ready: bool,
    /// The other end has said that nothing more comes, or the socket has failed.
    pub ending: bool,
}

impl Inbound {
    pub(super) fn new(stream: TcpStream, address: SocketAddr) -> Inbound {
        Inbound { stream, address, carry: Vec::new(), node: None, ready: false, ending: false }
    }
}

/// A peer whose machine is gone never says so: the system asks from time to time.
pub(super) fn keep_alive(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(USER_TIMEOUT).with_interval(USER_TIMEOUT);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
}

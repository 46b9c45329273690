//! One connection between two nodes, whoever has dialled it: frames come and go over it.

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::time::Duration;

/// How long sent bytes may stay unacknowledged. Without it a connection that a partition has
/// silenced would repeat them ever more seldom, and stay silent long after the partition.
const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection with what has been read from it.
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// The other end.
    pub address: SocketAddr,
    /// What has arrived of a frame, if not all of it.
    pub carry: Vec<u8>,
    /// It is on the loop's list of sockets to read.
    pub ready: bool,
    /// The other end has said that nothing more comes, or the socket has failed.
    pub ending: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, address: SocketAddr) -> Connection {
        Connection { stream, address, carry: Vec::new(), ready: false, ending: false }
    }
}

/// What both ends of a connection ask of the system: nothing waits to be joined by more, and a
/// peer whose machine or network is gone, which never says so, is given up.
pub(super) fn tune(socket: &SockRef<'_>) {
    let keep_alive = TcpKeepalive::new().with_time(USER_TIMEOUT).with_interval(USER_TIMEOUT);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

//! What the server knows of itself: limits that CONFIG SET may change, counters for INFO.

use replication::keyspace::Cluster;
use replication::{KeyspaceId, NodeId};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What session commands tell and change.
pub struct ServerState {
    /// The cluster's description.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is.
    pub me: NodeId,
    /// Where each node is found by its peers, in the members' order.
    pub peer_addresses: Vec<SocketAddr>,
    /// Where each node is found by clients, in the members' order; empty where it is not known.
    pub client_addresses: Vec<SocketAddr>,
    /// The keyspace that cluster-aware clients see: CLUSTER SLOTS.
    pub slots_keyspace: KeyspaceId,
    /// The port for clients.
    pub client_port: u16,
    /// Where the data is.
    pub data_directory: PathBuf,
    /// Bytes of one argument: `proto-max-bulk-len`.
    pub bulk_bytes_max: usize,
    /// The most that it can be set to: frames between nodes were sized for it at the start.
    pub bulk_bytes_limit: usize,
    /// When the process started.
    pub started: Instant,
    /// 40 hexadecimal digits, new at each start.
    pub run_id: String,
    /// What has happened since the start.
    pub counters: Counters,
}

/// What has happened since the start, or since CONFIG RESETSTAT.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Commands received.
    pub commands: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Connections closed because of what they sent.
    pub protocol_errors: u64,
    /// Turns of the event loop.
    pub turns: u64,
    /// Reads of the sockets of clients and peers.
    pub reads: u64,
    /// Those of them that found nothing.
    pub reads_empty: u64,
}

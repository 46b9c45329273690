//! One node as a process: takes the data directory and the ports, recovers the log, opens the core
//! and runs the event loop until it is told to stop.

use crate::clients::{CLIENTS_MAX, Clients};
use crate::disk::{self, Directory, DiskError, Log, LogOptions};
use crate::event_loop::{Clock, Confirm, Counts, EventLoop, LoopError, Parts, Sink};
use crate::event_loop::{FIRST_FREE_TOKEN, WAKER};
use crate::metrics::Metrics;
use crate::operator_log;
use crate::peers::{Identity, Peers, UNSENT_BYTES_MAX};
use crate::resp::parse::{BULK_BYTES_DEFAULT, BULK_BYTES_LIMIT, REQUEST_BYTES_SLACK};
use crate::session::{Counters, ServerState};
use mio::net::{TcpListener, UnixStream};
use mio::{Poll, Waker};
use replication::frame;
use replication::keyspace::Cluster;
use replication::mutant::Mutants;
use replication::node::open::Starting;
use replication::node::{Limits, OpenError, Setup, Timing};
use replication::{Incarnation, Input, KeyspaceId, Node, NodeId};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const _: () = assert!(
    !replication::mutant::COMPILED_IN,
    "the server must not be compiled with planted bugs: switch the feature `mutants` off"
);

/// What a frame must have room for beyond the largest request: 100 bytes or so of stamps and
/// lengths for each key of an MSET with as many keys as a request can have, and the message.
const PAYLOAD_BYTES_SLACK: usize = 64 << 20;
/// The process's exit code when its log can no longer be trusted; see [`ServerError::exit_code`].
pub const EXIT_LOG_FAILED: u8 = 74;
/// The process's exit code when it could not start.
pub const EXIT_CANNOT_START: u8 = 78;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The cluster's description.
    pub cluster: Cluster,
    /// Which of its members this is.
    pub me: NodeId,
    /// Where clients come.
    pub client_address: SocketAddr,
    /// Where the nodes listen for each other, in the members' order; its own is among them.
    pub peer_addresses: Vec<SocketAddr>,
    /// Where each node is found by clients, in the members' order, to be told in TF.STATUS; may
    /// be left empty.
    pub client_addresses: Vec<SocketAddr>,
    /// Where `GET /metrics` is answered, if anywhere.
    pub metrics_address: Option<SocketAddr>,
    /// The keyspace that cluster-aware clients see; see [`crate::config::Config`].
    pub slots_keyspace: KeyspaceId,
    /// Where the data is.
    pub data_directory: PathBuf,
    /// Bytes of one argument; the same on all nodes, for frames between them are bounded by it.
    pub bulk_bytes_max: usize,
    /// Clients at the same time.
    pub clients_max: usize,
    /// Bytes of a segment of the log from which on a new one is started.
    pub segment_bytes_max: u64,
    /// Whether the log's writes pass by the page cache where the file system takes that.
    pub direct_writes: bool,
    /// The core's intervals and timeouts.
    pub timing: Timing,
    /// The core's bounds.
    pub limits: Limits,
}

impl ServerOptions {
    /// With the usual limits.
    pub fn new(
        cluster: Cluster,
        me: NodeId,
        client_address: SocketAddr,
        peer_addresses: Vec<SocketAddr>,
        data_directory: PathBuf,
    ) -> ServerOptions {
        // The empty prefix always has a keyspace.
        let every_key = cluster.keyspace_of(b"").map_or(KeyspaceId(0), |keyspace| keyspace.id);
        ServerOptions {
            metrics_address: None,
            slots_keyspace: every_key,
            cluster,
            me,
            client_address,
            peer_addresses,
            client_addresses: Vec::new(),
            data_directory,
            bulk_bytes_max: BULK_BYTES_DEFAULT,
            clients_max: CLIENTS_MAX,
            segment_bytes_max: disk::SEGMENT_BYTES_MAX,
            direct_writes: true,
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

/// Why a node has not started, or has stopped by itself.
#[derive(Debug)]
pub enum ServerError {
    /// A port cannot be listened on.
    Listen {
        /// For whom.
        whom: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The options contradict each other.
    Options(String),
    /// The data directory cannot be used.
    Disk(DiskError),
    /// The log failed while the node was running.
    LogFailed(DiskError),
    /// The core cannot start from the log.
    Open(OpenError),
    /// The operating system refuses something that a server needs.
    System(&'static str, io::Error),
}

impl ServerError {
    /// What the process should exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServerError::LogFailed(_) => EXIT_LOG_FAILED,
            _ => EXIT_CANNOT_START,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Listen { whom, address, error } => {
                write!(f, "cannot listen for {whom} on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        ": port {} is in use; stop the process that has it, or choose another port",
                        address.port()
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, ": {} is not an address of this machine", address.ip())
                    }
                    _ => Ok(()),
                }
            }
            ServerError::Options(text) => f.write_str(text),
            ServerError::Disk(error) => write!(f, "{error}"),
            ServerError::LogFailed(error) => write!(
                f,
                "{error}. The log cannot be trusted any more, so this node has stopped; it was not \
                 tried again. What it had acknowledged as durable is on disk"
            ),
            ServerError::Open(OpenError::Malformed(position)) => write!(
                f,
                "record {} of the log makes no sense to this version: start the version that wrote \
                 it",
                position.0
            ),
            ServerError::Open(OpenError::Beginning(first, begin)) => write!(
                f,
                "the log begins with record {}, and records from {} on are needed: a segment of \
                 it is missing or was written over. Restore that from a copy; or move the data \
                 directory away and start the node with an empty one, then it is filled from its \
                 peers",
                first.0,
                begin.map_or(1, |begin| begin.0)
            ),
            ServerError::Open(OpenError::Foreign(text)) => f.write_str(text),
            ServerError::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<DiskError> for ServerError {
    fn from(error: DiskError) -> ServerError {
        ServerError::Disk(error)
    }
}

/// Runs a node until SIGTERM or SIGINT; then everything is on disk.
pub fn run(options: ServerOptions) -> Result<(), ServerError> {
    let system = |error| ServerError::System("listen for signals", error);
    let (stop, signalled) = std::os::unix::net::UnixStream::pair().map_err(system)?;
    for signal in [SIGTERM, SIGINT] {
        let signalled = signalled.try_clone().map_err(system)?;
        signal_hook::low_level::pipe::register(signal, signalled).map_err(system)?;
    }
    run_until(options, stop)
}

/// Runs a node until a byte arrives.
pub fn run_until(
    options: ServerOptions,
    stop: std::os::unix::net::UnixStream,
) -> Result<(), ServerError> {
    let system = |what| move |error| ServerError::System(what, error);
    stop.set_nonblocking(true).map_err(system("prepare the stop signal"))?;
    if let Some(text) = options.timing.contradiction() {
        return Err(ServerError::Options(text.to_string()));
    }
    let own = options.peer_addresses.get(usize::from(options.me.0)).copied();
    let own = own.filter(|_| options.peer_addresses.len() == options.cluster.members.len());
    let Some(own) = own else {
        return Err(ServerError::Options(format!(
            "the cluster has {} members and {} peer addresses, and this is node number {}",
            options.cluster.members.len(),
            options.peer_addresses.len(),
            options.me.0
        )));
    };
    // The ports first: whoever starts a node twice is told so before anything is read.
    let listener = listen("clients", options.client_address)?;
    let peer_listener = listen("peers", own)?;
    let poll = Poll::new().map_err(system("poll"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(system("poll"))?);
    let metrics = match options.metrics_address {
        Some(address) => {
            Some(Metrics::start(address, waker.clone()).map_err(|error| ServerError::Listen {
                whom: "metrics",
                address,
                error,
            })?)
        }
        None => None,
    };
    let directory = Directory::open(&options.data_directory).map_err(ServerError::Disk)?;
    let clock = Clock::new();
    let (node, sink) = open(&options, &directory, clock, waker)?;
    let state = server_state(&options, &sink)?;
    let name = options.cluster.member(options.me).map_or("?", |member| &member.name);
    operator_log::line(format_args!(
        "node {name} of cluster {}: clients {}, peers {own}, data {}, log at record {}",
        options.cluster.name,
        options.client_address,
        options.data_directory.display(),
        sink.log.last().0,
    ));
    let stop = UnixStream::from_std(stop);
    let directory = Arc::new(directory);
    let (place, opened_at) = (directory.clone(), sink.log.last());
    let confirm = Confirm { directory: place, opened_at, done: false };
    let parts =
        Parts { poll, listener, peer_listener, stop, clock, node, sink, state, confirm, metrics };
    let event_loop = EventLoop::new(parts).map_err(system("poll"))?;
    event_loop.run().map_err(|error| match error {
        LoopError::Disk(error) => ServerError::LogFailed(error),
        LoopError::Poll(error) => ServerError::System("wait for events", error),
        LoopError::Thread(error) => ServerError::System("start a thread", error),
    })?;
    operator_log::line(format_args!("node {name} has stopped; its log is on disk"));
    directory.stop_clean().map_err(ServerError::Disk)?;
    drop(directory);
    Ok(())
}

fn listen(whom: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).map_err(|error| ServerError::Listen { whom, address, error })
}

/// Recovers the log and opens the core from it.
fn open(
    options: &ServerOptions,
    directory: &Directory,
    clock: Clock,
    waker: Arc<Waker>,
) -> Result<(Node, Sink), ServerError> {
    let prepared = directory.prepare(&options.cluster, options.me);
    let (segments, recovered, trust) = prepared.map_err(ServerError::Disk)?;
    let setup = Setup {
        cluster: options.cluster.clone(),
        me: options.me,
        new_incarnation: Incarnation(random()?),
        seed: random()?,
        timing: options.timing,
        limits: Limits { value_bytes_max: bulk_bytes_max(options), ..options.limits },
        mutants: Mutants::default(),
        may_have_lost_unsynced: trust.lost_unsynced,
        damaged: trust.damaged,
    };
    let now = clock.time();
    let mut starting = Starting::new(setup, now);
    let tail = segments.replay(&recovered, |position, record| {
        starting.take(position, record).map_err(ServerError::Open)
    })?;
    let wake = move || {
        // Fails only when the loop has gone.
        let _ = waker.wake();
    };
    let log_options =
        LogOptions { segment_bytes_max: options.segment_bytes_max, direct: options.direct_writes };
    let log = Log::start(directory, &segments, &recovered, &tail, log_options, wake)
        .map_err(ServerError::Disk)?;
    let identity = Identity {
        cluster: frame::cluster_digest(&options.cluster.name),
        me: options.me,
        incarnation: Incarnation::default(),
        payload_bytes_max: bulk_bytes_max(options) + REQUEST_BYTES_SLACK + PAYLOAD_BYTES_SLACK,
        unsent_bytes_max: UNSENT_BYTES_MAX,
    };
    let peers = Peers::new(identity, &options.peer_addresses, FIRST_FREE_TOKEN);
    let clients = Clients::new(peers.tokens_end(), options.clients_max);
    let cluster = Arc::new(options.cluster.clone());
    let mut sink = Sink { clients, peers, log, cluster, counts: Counts::default() };
    let (written, synced) = sink.log.kept();
    let mut node = starting.open(&mut sink).map_err(ServerError::Open)?;
    sink.peers.set_incarnation(node.incarnation());
    // All that was recovered has been synced before the log was opened.
    node.step(now, Input::Durable { written, synced }, &mut sink);
    Ok((node, sink))
}

fn server_state(options: &ServerOptions, sink: &Sink) -> Result<ServerState, ServerError> {
    let (high, middle, low) = (random()?, random()?, random()? as u32);
    Ok(ServerState {
        slots_keyspace: options.slots_keyspace,
        cluster: sink.cluster.clone(),
        me: options.me,
        peer_addresses: options.peer_addresses.clone(),
        client_addresses: options.client_addresses.clone(),
        client_port: options.client_address.port(),
        data_directory: options.data_directory.clone(),
        bulk_bytes_max: bulk_bytes_max(options),
        bulk_bytes_limit: bulk_bytes_max(options),
        started: Instant::now(),
        run_id: format!("{high:016x}{middle:016x}{low:08x}"),
        counters: Counters::default(),
    })
}

fn bulk_bytes_max(options: &ServerOptions) -> usize {
    options.bulk_bytes_max.min(BULK_BYTES_LIMIT)
}

fn random() -> Result<u64, ServerError> {
    getrandom::u64()
        .map_err(|error| ServerError::System("draw a random number", io::Error::other(error)))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;

//! The server's one thread: wait; read every ready socket once; parse; step; end the turn; then
//! write the log batch, now, last of all or by the log thread (see `stand_in.rs`), one frame to
//! each peer, one write to each client. Nothing else sends, and no timer delays anything.
//!
//! Reading: a short read ends a socket's turn, for epoll reports what comes later; a full one puts
//! it on the loop's own ready list, so that a busy client never keeps the others waiting.

mod clock;
mod read_clients;
mod read_peers;
mod sink;
mod stand_in;

pub use clock::Clock;
pub use sink::{Counts, Sink};

use crate::clients::Flushed;
use crate::disk::{Directory, DiskError, Report};
use crate::metrics::{self, Metrics};
use crate::operator_log;
use crate::session::ServerState;
use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use replication::{ClientId, Input, Node, NodeId, Position, Time};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Listens for clients.
pub const CLIENT_LISTENER: Token = Token(0);
/// Listens for peers.
pub const PEER_LISTENER: Token = Token(1);
/// The log thread has a report.
pub const WAKER: Token = Token(2);
/// The process is to stop.
pub const STOP: Token = Token(3);
/// The peers' tokens, then the clients'.
pub const FIRST_FREE_TOKEN: usize = 4;

/// Events taken at once.
const EVENTS_MAX: usize = 1_024;
/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// Bytes of several clients' reads, whose commands are looked ahead at together.
const BUFFER_BYTES: usize = 4 * READ_BYTES;
/// How long a client that has closed its sending half gets its outstanding replies.
const LINGER: Duration = Duration::from_secs(5);
/// A connection that is lost again and again is told of so often.
const LOSS_TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long a process that is to stop tries to hand over what it leads.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// The longest wait, in case a clock misbehaves.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why the loop has ended.
#[derive(Debug)]
pub enum LoopError {
    /// The log cannot be trusted any more.
    Disk(DiskError),
    /// Waiting for events is not possible.
    Poll(io::Error),
    /// The thread that stands in cannot be started.
    Thread(io::Error),
}

/// All that the loop works with.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    peer_listener: TcpListener,
    stop: UnixStream,
    clock: Clock,
    node: Node,
    sink: Sink,
    state: ServerState,
    confirm: Confirm,
    metrics: Option<Metrics>,
    /// What reads take.
    buffer: Vec<u8>,
    /// Clients whose commands wait because the node has too much to answer, by their places.
    crowded_out: Vec<usize>,
    /// What clients' reads have given.
    reads: Vec<read_clients::ClientRead>,
    /// The session commands' replies are made here.
    scratch: Vec<u8>,
    ready_clients: VecDeque<usize>,
    /// When the operator was last told that the connection to a node is lost.
    loss_told: BTreeMap<NodeId, Instant>,
    ready_peers: VecDeque<usize>,
    /// Clients that will say nothing more: until when they are waited for, and who.
    lingering: VecDeque<(Instant, usize, ClientId)>,
    /// The process is to stop, at the latest then: it hands over what it leads.
    leave_until: Option<Instant>,
    accept_more: bool,
    /// Counts all turns, whatever CONFIG RESETSTAT does.
    turns: u64,
    /// Commands that this turn was asked, and replies that it has given meanwhile.
    asked: u64,
    answered_at_once: u64,
    now: Instant,
    time: Time,
}

/// What the loop is made of.
pub struct Parts {
    /// Where events come from; the waker is registered already.
    pub poll: Poll,
    /// Where clients come.
    pub listener: TcpListener,
    /// Where peers come.
    pub peer_listener: TcpListener,
    /// A byte here ends the loop.
    pub stop: UnixStream,
    /// The process's clocks.
    pub clock: Clock,
    /// The core.
    pub node: Node,
    /// Where its effects go.
    pub sink: Sink,
    /// What session commands tell and change.
    pub state: ServerState,
    /// What the data directory is told when the node's start is on disk.
    pub confirm: Confirm,
    /// Who asks for the loop's figures, if anybody may.
    pub metrics: Option<Metrics>,
}

/// The node's start is on disk, and with it what may have been lost before: the data directory is
/// told, before the node says anything to anybody.
pub struct Confirm {
    /// The directory.
    pub directory: Arc<Directory>,
    /// The last record of the start.
    pub opened_at: Position,
    /// Whether it has been told.
    pub done: bool,
}

impl Confirm {
    fn on_synced(&mut self, synced: Position) -> Result<(), DiskError> {
        if !self.done && synced >= self.opened_at {
            self.directory.confirm()?;
            self.done = true;
        }
        Ok(())
    }
}

impl EventLoop {
    /// Registers what is listened to.
    pub fn new(parts: Parts) -> io::Result<EventLoop> {
        let Parts { poll, mut listener, mut peer_listener, mut stop, clock, .. } = parts;
        let Parts { node, sink, state, confirm, metrics, .. } = parts;
        let registry = poll.registry();
        registry.register(&mut listener, CLIENT_LISTENER, Interest::READABLE)?;
        registry.register(&mut peer_listener, PEER_LISTENER, Interest::READABLE)?;
        registry.register(&mut stop, STOP, Interest::READABLE)?;
        let now = Instant::now();
        Ok(EventLoop {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listener,
            peer_listener,
            stop,
            clock,
            node,
            sink,
            state,
            confirm,
            metrics,
            buffer: vec![0; BUFFER_BYTES],
            crowded_out: Vec::new(),
            reads: Vec::new(),
            scratch: Vec::new(),
            ready_clients: VecDeque::new(),
            loss_told: BTreeMap::new(),
            ready_peers: VecDeque::new(),
            lingering: VecDeque::new(),
            leave_until: None,
            accept_more: false,
            turns: 0,
            asked: 0,
            answered_at_once: 0,
            now,
            time: clock.time(),
        })
    }

    /// Runs until it is told to stop; then everything is on disk.
    pub fn run(self) -> Result<(), LoopError> {
        stand_in::run(Box::new(self))
    }

    /// Waits until there is something to do, and does it. False if it is time to stop.
    fn wait_and_turn(&mut self) -> Result<bool, LoopError> {
        let wait = self.wait();
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(LoopError::Poll(error));
        }
        self.read_clock();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let is_told = self.take_events(&events);
        self.events = events;
        // Who says it twice is in a hurry.
        let mut is_over = is_told && self.leave_until.is_some();
        if !is_over {
            if is_told {
                self.leave_until = Some(self.now + LEAVE_MAX);
                self.step(Input::Leave);
            }
            self.turn()?;
            let is_spared = |until| until <= self.now || self.node.is_spared(self.time);
            is_over = self.leave_until.is_some_and(is_spared);
        }
        if is_over {
            // The last that is written, as the log is closed.
            self.step(Input::Stop);
        }
        Ok(!is_over)
    }

    /// The disk has the batch that this loop has waited for itself: what that lets go leaves.
    fn own_written(&mut self, report: Report) -> Result<(), LoopError> {
        self.sink.log.hear_own(report).map_err(LoopError::Disk)?;
        self.begin_turn();
        self.read_clock();
        self.hear_log()?;
        // What that makes the core append is another thread's: others are to be heard first.
        self.end_turn(false)
    }

    fn read_clock(&mut self) {
        self.now = Instant::now();
        self.time = self.clock.time();
    }

    /// How long nothing needs to be done.
    fn wait(&self) -> Duration {
        let is_ready = !self.ready_clients.is_empty() || !self.ready_peers.is_empty();
        if is_ready || self.accept_more || self.sink.log.has_progress() {
            return Duration::ZERO;
        }
        let deadlines = [
            clock::moment(self.node.next_deadline(), self.time, self.now),
            self.sink.log.deadline(),
            self.sink.peers.deadline(),
            self.sink.clients.accept_again(),
            self.lingering.front().map(|(until, ..)| *until),
            self.leave_until,
        ];
        let next = deadlines.into_iter().flatten().min();
        let now = Instant::now();
        next.map_or(WAIT_MAX, |next| next.saturating_duration_since(now).min(WAIT_MAX))
    }

    /// Notes what is ready. True if it is time to stop.
    fn take_events(&mut self, events: &Events) -> bool {
        for event in events {
            match event.token() {
                CLIENT_LISTENER => self.accept_more = true,
                PEER_LISTENER => {
                    self.sink.peers.accept(&self.peer_listener, self.poll.registry(), self.now);
                }
                WAKER => {}
                STOP => {
                    let mut byte = [0u8; 1];
                    if matches!(self.stop.read(&mut byte), Ok(1)) {
                        return true;
                    }
                }
                token => {
                    let ending = event.is_read_closed() || event.is_error();
                    if let Some(place) = self.sink.peers.place_of(token) {
                        self.peer_event(place, event.is_readable(), ending);
                    } else if let Some(place) = self.sink.clients.place_of(token) {
                        let broken = event.is_error() || event.is_write_closed();
                        self.client_event(place, event.is_readable(), ending, broken);
                        if event.is_writable() {
                            self.sink.clients.touch_unsent(place);
                        }
                    }
                }
            }
        }
        false
    }

    /// Everything between two waits; what follows a wait for the disk is
    /// [`EventLoop::own_written`].
    fn turn(&mut self) -> Result<(), LoopError> {
        self.begin_turn();
        self.hear_log()?;
        if self.sink.peers.is_accept_due(self.now) {
            self.sink.peers.accept(&self.peer_listener, self.poll.registry(), self.now);
        }
        self.read_peers();
        let accept_again = self.sink.clients.accept_again().is_some_and(|at| at <= self.now);
        if self.accept_more || accept_again {
            let registry = self.poll.registry();
            self.accept_more = self.sink.clients.accept(&self.listener, registry, self.now);
        }
        let (commands, answers) = (self.state.counters.commands, self.sink.clients.answers);
        self.read_clients();
        self.asked = self.state.counters.commands.saturating_sub(commands);
        self.answered_at_once = self.sink.clients.answers - answers;
        self.stop_lingering();
        if self.node.next_deadline() <= self.time.monotonic_us {
            self.step(Input::Tick);
        }
        self.end_turn(true)?;
        self.tell_metrics();
        Ok(())
    }

    /// Whoever asks for figures gets them.
    fn tell_metrics(&self) {
        if let Some(metrics) = self.metrics.as_ref().filter(|metrics| metrics.is_asked()) {
            let moment = (self.now, self.time);
            metrics.publish(metrics::snapshot(&self.node, &self.sink, &self.state, moment));
        }
    }

    fn begin_turn(&mut self) {
        self.state.counters.turns += 1;
        self.turns += 1;
        (self.asked, self.answered_at_once) = (0, 0);
    }

    /// Tells the core how far the log is kept, if that has changed.
    fn hear_log(&mut self) -> Result<(), LoopError> {
        if let Some((written, synced)) = self.sink.log.progress().map_err(LoopError::Disk)? {
            self.confirm.on_synced(synced).map_err(LoopError::Disk)?;
            self.step(Input::Durable { written, synced });
        }
        Ok(())
    }

    fn step(&mut self, input: Input<'_>) {
        self.node.step(self.time, input, &mut self.sink);
    }

    fn peer_lost(&mut self, node: NodeId) {
        let told = self.loss_told.get(&node).is_some_and(|at| *at + LOSS_TOLD_EVERY > self.now);
        if !told {
            self.loss_told.insert(node, self.now);
            let name = self.sink.cluster.member(node).map_or("?", |member| &member.name);
            operator_log::line(format_args!(
                "connection to {name} lost (if that goes on, see what {name} says about this node)"
            ));
        }
        self.step(Input::PeerLost(node));
    }

    /// No more inputs: what that makes the core append is written, or handed to the log thread.
    fn end_inputs(&mut self, may_wait: bool) -> Result<(), LoopError> {
        // Fresh, for the inputs of this turn may have taken their time.
        self.read_clock();
        let answers = self.sink.clients.answers;
        self.step(Input::TurnEnd);
        // Where most of those who ask are answered without the disk, they are not to wait for it.
        let at_once = self.answered_at_once + self.sink.clients.answers - answers;
        let own = may_wait && at_once * 2 <= self.asked;
        self.sink.log.hand_over(self.now, own).map_err(LoopError::Disk)
    }

    /// What has gathered leaves: first to the disk, which takes longest, then to peers and clients;
    /// but what this loop writes to the disk itself comes after them. `may_wait`: it may do so.
    fn end_turn(&mut self, may_wait: bool) -> Result<(), LoopError> {
        self.end_inputs(may_wait)?;
        if self.sink.log.has_progress() {
            // What counts as soon as it is written counts in this turn.
            self.hear_log()?;
            self.end_inputs(false)?;
        }
        let mut lost = Vec::new();
        let registry = self.poll.registry();
        let turn = self.turns;
        self.sink.peers.flush(turn, self.now, registry, &mut lost);
        self.sink.peers.dial(self.now, registry);
        let mut flushed = Flushed::default();
        self.sink.clients.flush(turn, &mut flushed);
        for place in flushed.readable {
            self.client_event(place, true, false, false);
        }
        for place in flushed.told_all {
            self.outlast_client(place);
        }
        for place in flushed.closing {
            self.close_client(place);
        }
        self.resume_crowded_out();
        for node in lost {
            self.peer_lost(node);
        }
        for node in self.sink.peers.unreached() {
            self.step(Input::PeerLost(node));
        }
        Ok(())
    }
}

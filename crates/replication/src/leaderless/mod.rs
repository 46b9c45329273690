//! Leaderless replication: any replica of a key takes its reads and writes; quorums overlap.
//!
//! A key has N replicas. The node that a client asked hands the command to one of them, the
//! *coordinator*: there is no leader, every replica may be one, also at the same time.
//!
//! **Write.** The coordinator stamps the record (hybrid clock, larger than what it stores), keeps
//! it, and sends it whole to all other replicas at once. Each answers when it has it *durably*; the
//! coordinator's own copy counts when it is durable, too. W acks answer the client. A write that
//! misses W in time answers `-PARTIAL acked=1 need=2`: the copies stay, are seen by some reads, and
//! spread by read repair. They are never rolled back, as nobody could say so to all who read them.
//!
//! **Rewrite.** A replica that holds a newer base does not ack but answers with it. It may have
//! been acknowledged before this write began, by a coordinator whose clock is ahead; so this
//! coordinator takes note of the stamp, stamps again and writes everywhere anew, before it replies.
//! Where 2W > N every later write meets every earlier one in some replica, and wins over it.
//!
//! **Read.** The coordinator takes its own record and asks R − 1 others by a digest of it: who
//! holds the same says so, who does not answers with its record. R answers are merged and answer
//! the client. W + R > N: one of them has the last acknowledged write. A missing record loses to a
//! tombstone, a tombstone to what is newer. Where an answer differs, or none comes, the other
//! replicas are asked as well; then whoever was stale gets the merged record: *read repair*. The
//! replicas that are asked change from turn to turn; under load, those whom the turn tells
//! something anyway come first in most turns.
//!
//! **Read, then write.** INCR, DEL (it counts), EXPIRE, PERSIST and GETEX: quorum read, merge into
//! the own store, evaluate, quorum write. Increments have a slot for each actor, so concurrent
//! ones add up. A coordinator carries out the writes of one key one at a time, in order of
//! arrival; plain SETs that wait together are written as one, the last (`queue.rs`).
//!
//! **Nothing is said before it is durable.** A replica's acks and answers wait for the log
//! (`Gate`). What is made from something read is durable here before anybody hears of it: else a
//! crash could use an actor's slot a second time with other content. Plain SETs travel while the
//! log syncs, as their names cannot repeat: the dot's counter is the hybrid stamp, below a ceiling
//! that was made durable beforehand (`ceiling.rs`), and the clock starts above it.
//!
//! **One message to each peer and turn.** All questions and answers of a turn gather in the peer's
//! buffer (`outbox.rs`, `parts.rs`, `receive.rs`).
//! What is under way is kept in places that are used again
//! (`operations.rs`): a command allocates nothing here once the buffers have grown.
//!
//! **What claims or compares** (SETNX, GETSET, conditions, APPEND, KEEPTTL, ...) is refused:
//! `-NEEDCOORD`.
//!
//! **A replica whose disk was emptied** answers "not ready", never "not found", until it has
//! fetched all that each other replica holds (`recovery.rs`).
//!
//! Left out, and what follows: *sloppy quorums and hints*: with fewer than W replicas up, writes
//! are PARTIAL. *Anti-entropy*: what a replica missed comes back by read repair, for keys that are
//! read, when a read asks it. *Collection of tombstones*: they stay for ever. *Strict mode*: two
//! reads during one write may see it and then not see it, as repair does not precede the reply;
//! and of two concurrent writes that were both acknowledged one is lost (last write wins).
//! *FLUSHALL* deletes what its replicas hold when they hear of it, unless stamped later than the
//! flush by a clock ahead. *Expiry* is judged by the coordinator's wall clock at the moment of
//! evaluation.

mod ceiling;
mod flush;
pub mod message;
mod operation;
mod operations;
mod outbox;
mod partition;
pub mod parts;
mod places;
mod queue;
mod quorum_read;
mod quorum_write;
mod read_repair;
mod read_then_write;
mod receive;
mod recovery;
mod timers;

#[cfg(test)]
mod tests;

pub use partition::Partition;
pub use places::REPLICAS_MAX;
pub use recovery::{RECORD_KIND, keyspace_of_record};

use crate::command::verb::{Condition, Needs, With};
use crate::command::{KeyCommand, Verb};
use crate::storage::store::Store;
use crate::turn::{Requester, Turn};
use crate::version::HybridClock;
use crate::{GroupId, Incarnation, KeyspaceId, NodeId, Position, keyspace};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ceiling::Ceiling;
use flush::{Flush, FlushFor};
use message::Message;
use operation::{About, Customer, Purpose, purpose};
use operations::Operations;
use outbox::Outbox;
use partition::Partitions;
use recovery::Fetches;
use timers::{Due, Timers};

/// Commands of clients that one keyspace carries out at a time on a node, those included that are
/// answered and still wait for their last replicas.
pub const OPERATIONS_MAX: usize = 65_536;

/// One leaderless keyspace on one node: its partitions, and the operations that it coordinates.
pub struct Leaderless {
    options: keyspace::Leaderless,
    keyspace: KeyspaceId,
    generation: u8,
    me: NodeId,
    actor: u64,
    partitions: Partitions,
    /// What this node coordinates.
    operations: Operations,
    /// Counts phases of operations; random at first, so that the answers to questions of an
    /// earlier process are nobody's.
    newest_operation: Option<u64>,
    /// Writes that waited for one of the same key, which was just answered: they may begin.
    released: VecDeque<u32>,
    /// Operations that go on when the log is synced, or written, up to a position.
    awaiting_synced: VecDeque<(Position, u64)>,
    awaiting_written: VecDeque<(Position, u64)>,
    /// What is said to the peers at the end of the turn, and what waits for the log.
    outbox: Outbox,
    timers: Timers,
    /// Turns in which something was read, and whether this is one.
    read_turns: usize,
    reads_in_turn: bool,
    /// The stamps of this keyspace's writes. Its own: a clock that is wrong on one node reaches
    /// all replicas by its writes, and must not reach the groups of other keyspaces there, which
    /// judge deadlines and skews by theirs.
    clock: HybridClock,
    ceiling: Ceiling,
    /// No flush and no fetch wants anything before this; microseconds of the monotonic clock.
    next_at_us: u64,
    /// Peers that were lost and have not spoken since: nothing that is answered waits for them.
    lost: BTreeSet<NodeId>,
    /// Peers that were slow to answer a read and have not spoken since: others are asked.
    slow: BTreeSet<NodeId>,
    flushes: BTreeMap<u64, Flush>,
    /// Flushes of which a tombstone was just answered.
    continuing_flushes: VecDeque<u64>,
    /// Whether reads may be answered from the own store.
    ready: bool,
    fetches: Fetches,
}

impl Leaderless {
    /// The keyspace's part on this node. `partitions` are those that the node replicates; `actor`
    /// names (node, incarnation); `seed` is that of the hash tables.
    pub fn new(
        options: &keyspace::Leaderless,
        partitions: Vec<Partition>,
        me: NodeId,
        actor: u64,
        seed: u64,
    ) -> Leaderless {
        let nobody = GroupId {
            keyspace: KeyspaceId(0),
            generation: 0,
            partition: 0,
            datacenter: GroupId::EVERYWHERE,
        };
        let group = partitions.first().map_or(nobody, |partition| partition.group);
        let peers = partitions.iter().flat_map(|partition| partition.replicas.iter().copied());
        Leaderless {
            options: options.clone(),
            keyspace: group.keyspace,
            generation: group.generation,
            me,
            actor,
            outbox: Outbox::new(group, peers),
            partitions: Partitions::new(partitions, me, seed),
            operations: Operations::new(seed),
            newest_operation: None,
            released: VecDeque::new(),
            awaiting_synced: VecDeque::new(),
            awaiting_written: VecDeque::new(),
            timers: Timers::default(),
            read_turns: 0,
            reads_in_turn: false,
            clock: HybridClock::default(),
            ceiling: Ceiling::default(),
            next_at_us: u64::MAX,
            lost: BTreeSet::new(),
            slow: BTreeSet::new(),
            flushes: BTreeMap::new(),
            continuing_flushes: VecDeque::new(),
            ready: true,
            fetches: Fetches::default(),
        }
    }

    /// Names this replica's writes: known only once the log is read.
    pub fn set_actor(&mut self, actor: u64) {
        self.actor = actor;
    }

    /// Whether this node replicates the group: only then can it coordinate for it.
    pub fn holds(&self, group: GroupId) -> bool {
        self.partitions.get(group).is_some()
    }

    /// What this replica keeps of a group.
    pub fn store(&self, group: GroupId) -> Option<&Store> {
        self.partitions.get(group).map(|held| &held.store)
    }

    /// No record takes more bytes; a bound.
    pub fn longest_record(&self) -> usize {
        self.partitions.iter().map(|held| held.store.longest()).max().unwrap_or(0)
    }

    /// Whether this replica answers reads from its own store: see [`Leaderless::set_ready`].
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Carries out a command on one key, as its coordinator. The slot is the key's.
    pub fn execute(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        (group, slot): (GroupId, u16),
        command: &KeyCommand<'_>,
        with: With,
    ) {
        if let Some(error) = self.refusal(group, slot, command, with) {
            return turn.refuse(requester, error);
        }
        let (customer, partition) = (Customer::Requester(requester), group.partition);
        let purpose = purpose(&command.verb);
        let hashes = self.operations.hashes_in_slot(slot, command.key);
        let about = About { customer, partition, hashes, purpose, with };
        let is_written = self.operations.holder(hashes.hash, command.key).is_some();
        let place = self.operation(turn, about, command);
        match purpose {
            Purpose::Read if !is_written => self.begin_read(turn, place),
            Purpose::Read | Purpose::Overwrite | Purpose::Modify => self.enqueue(turn, place),
        }
        self.start_released(turn);
    }

    /// FLUSHALL's part: deletes the group's keys by quorum writes, and answers OK when R replicas
    /// have done so with all that they hold.
    pub fn flush(&mut self, turn: &mut Turn<'_>, requester: Requester, group: GroupId) {
        self.begin_flush(turn, group, FlushFor::Requester(requester));
        self.start_released(turn);
    }

    /// Handles a message. The sender's incarnation changes nothing: a replica is one replica,
    /// whatever its disk; a wiped one says itself that it is not ready.
    pub fn on_message(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        _incarnation: Incarnation,
        message: Message<'_>,
    ) {
        if from == self.me {
            return;
        }
        match message {
            Message::Batch { generation, parts, .. } if generation == self.generation => {
                self.on_batch(turn, from, &parts);
            }
            Message::Batch { .. } => {}
            Message::Flush { group, .. }
            | Message::FlushAnswer { group, .. }
            | Message::Fetch { group, .. }
            | Message::Fetched { group, .. } => {
                // Nothing from a node that is no replica of the group counts for anything.
                let held = self.partitions.get(group);
                if held.is_some_and(|held| held.place_of(from).is_some()) {
                    self.has_spoken(from);
                    self.on_rare_message(turn, from, message);
                }
            }
        }
        self.start_released(turn);
    }

    fn on_rare_message(&mut self, turn: &mut Turn<'_>, from: NodeId, message: Message<'_>) {
        match message {
            Message::Batch { .. } => {}
            // A coordinator wants what we hold deleted.
            Message::Flush { operation, group, before } => {
                self.on_flush(turn, from, operation, group, before);
            }
            // A replica has deleted what it held.
            Message::FlushAnswer { operation, missed, .. } => {
                self.on_flush_answer(turn, from, operation, missed);
            }
            // A replica with an emptied disk wants a page of our records.
            Message::Fetch { operation, group, from: place } => {
                self.on_fetch(turn, from, operation, group, place);
            }
            // A page for our own emptied disk.
            Message::Fetched { operation, group, records, next } => {
                self.on_fetched(turn, from, operation, group, &records, next);
            }
        }
    }

    fn has_spoken(&mut self, node: NodeId) {
        self.lost.remove(&node);
        self.slow.remove(&node);
    }

    /// The log is kept further than before: own copies count, held replies go, and what was owed
    /// to peers is said.
    pub fn on_durable(&mut self, turn: &mut Turn<'_>) {
        self.outbox.say_owed(turn);
        let (synced, written) = (turn.local.synced, turn.local.written);
        while let Some((_, number)) = self.awaiting_synced.pop_front_if(|(at, _)| *at <= synced) {
            self.advance(turn, number);
        }
        while let Some((_, number)) = self.awaiting_written.pop_front_if(|(at, _)| *at <= written) {
            self.advance(turn, number);
        }
        self.start_released(turn);
        // Also where the log is written between the end of the turn and the last look at the
        // peers' frames: what it allows to say goes with them.
        self.outbox.send(turn);
    }

    /// Nothing more this turn: one message to each peer.
    pub fn on_turn_end(&mut self, turn: &mut Turn<'_>) {
        self.outbox.send(turn);
        self.read_turns = self.read_turns.wrapping_add(usize::from(self.reads_in_turn));
        self.reads_in_turn = false;
        let operations = &self.operations;
        self.timers.trim(|number| operations.place_of(number).is_none());
    }

    /// A deadline may have come: asks again, and gives up what has waited too long.
    pub fn on_tick(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        while let Some(due) = self.timers.due(now_us) {
            match due {
                Due::Hedge(number) => self.hedge(turn, number),
                Due::Again(number) | Due::Deadline(number) => self.on_due(turn, number),
            }
        }
        if now_us >= self.next_at_us {
            self.next_at_us = u64::MAX;
            self.on_flushes_due(turn);
            self.on_fetches_due(turn);
        }
        self.start_released(turn);
    }

    /// When it wants a tick at the latest, in microseconds of the monotonic clock.
    pub fn next_deadline(&self) -> u64 {
        self.next_at_us.min(self.timers.next_at_us())
    }

    /// The connection to a peer broke. Questions to it are asked again by the timer; reads ask
    /// others in its place, and operations that are answered no longer wait for it.
    pub fn on_peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.lost.insert(node);
        for place in self.operations.places() {
            self.advance_at(turn, place);
        }
        self.start_released(turn);
    }

    fn wake_at(&mut self, at_us: u64) {
        self.next_at_us = self.next_at_us.min(at_us);
    }

    /// Why a command is not even begun, if so.
    fn refusal(
        &self,
        group: GroupId,
        slot: u16,
        command: &KeyCommand<'_>,
        with: With,
    ) -> Option<String> {
        let Some(held) = self.partitions.get(group).filter(|held| held.has_slot(slot)) else {
            return Some(format!(
                "TRYAGAIN {} is no replica of slot {slot}; it cannot coordinate for it",
                self.me,
            ));
        };
        if let Some(text) = refused(&command.verb) {
            return Some(text);
        }
        let n = held.replicas.len();
        for (letter, count) in [("W", with.w), ("R", with.r)] {
            if let Some(count) = count.filter(|count| *count == 0 || usize::from(*count) > n) {
                return Some(format!(
                    "ERR {letter} must be between 1 and {n}, the replicas of a key; not {count}"
                ));
            }
        }
        let operations = self.operations.len();
        if operations >= OPERATIONS_MAX {
            return Some(format!(
                "TRYAGAIN {operations} operations in flight, no more than {OPERATIONS_MAX}"
            ));
        }
        None
    }
}

/// Why this model does not take a command, if so.
fn refused(verb: &Verb<'_>) -> Option<String> {
    let needs = verb.needs();
    if needs == Needs::Nothing {
        return None;
    }
    let name = name(verb);
    Some(match needs {
        Needs::Nothing | Needs::Register => format!(
            "NEEDCOORD {name} makes a value from the newest one, and in a leaderless keyspace \
             others write it at the same time; use SET with the whole value, or a leader-follower \
             keyspace"
        ),
        Needs::Coordination => format!(
            "NEEDCOORD {name} claims or compares, and a leaderless keyspace has nobody who \
             decides between two at the same time; use plain SET, GET and DEL, or a \
             leader-follower keyspace"
        ),
    })
}

/// What a command is called in an error.
fn name(verb: &Verb<'_>) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Set { get: true, .. } => "SET with GET",
        Verb::Set { condition: Condition::Always, .. } => "SET with KEEPTTL",
        Verb::Set { .. } => "SET with NX or XX",
        Verb::SetIfAbsent(_) => "SETNX",
        Verb::GetSet(_) => "GETSET",
        Verb::GetDelete => "GETDEL",
        Verb::GetExpire(_) => "GETEX",
        Verb::Append(_) => "APPEND",
        Verb::Length => "STRLEN",
        Verb::GetRange(..) => "GETRANGE",
        Verb::SetRange(..) => "SETRANGE",
        Verb::Increment(_) => "INCRBY",
        Verb::IncrementFloat(_) => "INCRBYFLOAT",
        Verb::Delete => "DEL",
        Verb::Exists => "EXISTS",
        Verb::Type => "TYPE",
        Verb::Expire(..) => "EXPIRE with NX, XX, GT or LT",
        Verb::TimeToLive { .. } => "TTL",
        Verb::Persist => "PERSIST",
    }
}

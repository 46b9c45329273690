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
//! **Read.** The coordinator asks all replicas and its own store; R answers are merged and answer
//! the client. W + R > N: one of them has the last acknowledged write. A missing record loses to a
//! tombstone, a tombstone to what is newer. Later answers are waited for; then whoever was stale
//! gets the merged record: *read repair*.
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
//! **What claims or compares** (SETNX, GETSET, conditions, APPEND, KEEPTTL, ...) is refused:
//! `-NEEDCOORD`.
//!
//! **A replica whose disk was emptied** answers "not ready", never "not found", until it has
//! fetched all that each other replica holds (`recovery.rs`).
//!
//! Left out, and what follows: *sloppy quorums and hints*: with fewer than W replicas up, writes
//! are PARTIAL. *Anti-entropy*: what a replica missed comes back by read repair, for keys that are
//! read. *Collection of tombstones*: they stay for ever. *Strict mode*: two reads during one write
//! may see it and then not see it, as repair does not precede the reply; and of two concurrent
//! writes that were both acknowledged one is lost (last write wins). *FLUSHALL* deletes what its
//! replicas hold when they hear of it, unless stamped later than the flush by a clock ahead.
//! *Expiry* is judged by the coordinator's wall clock at the moment of evaluation.

mod ceiling;
mod flush;
pub mod message;
mod operation;
mod partition;
mod queue;
mod quorum_read;
mod quorum_write;
mod read_repair;
mod read_then_write;
mod recovery;

#[cfg(test)]
mod tests;

pub use partition::Partition;
pub use recovery::{RECORD_KIND, keyspace_of_record};

use crate::command::verb::{Condition, Needs, With};
use crate::command::{KeyCommand, Verb};
use crate::keyspace::slot::slot_of;
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
use operation::{Operation, Purpose};
use partition::Held;
use recovery::Fetches;

/// Commands of clients that one keyspace carries out at a time on a node, those included that are
/// answered and still wait for their last replicas.
pub const OPERATIONS_MAX: usize = 65_536;

/// One leaderless keyspace on one node: its partitions, and the operations that it coordinates.
pub struct Leaderless {
    options: keyspace::Leaderless,
    keyspace: KeyspaceId,
    me: NodeId,
    actor: u64,
    held: BTreeMap<GroupId, Held>,
    /// What this node coordinates, by number.
    operations: BTreeMap<u64, Operation>,
    /// The number of the newest operation; random at first, so that the answers to questions of an
    /// earlier process are nobody's.
    newest_operation: Option<u64>,
    /// The keys that are being written, each with the writes that wait.
    queues: BTreeMap<Vec<u8>, VecDeque<Operation>>,
    /// How many writes wait in all queues.
    queued: usize,
    /// Keys whose write was just answered: the next one may start.
    released: VecDeque<Vec<u8>>,
    /// Operations that go on when the log is synced, or written, up to a position.
    awaiting_synced: VecDeque<(Position, u64)>,
    awaiting_written: VecDeque<(Position, u64)>,
    /// The stamps of this keyspace's writes. Its own: a clock that is wrong on one node reaches
    /// all replicas by its writes, and must not reach the groups of other keyspaces there, which
    /// judge deadlines and skews by theirs.
    clock: HybridClock,
    ceiling: Ceiling,
    /// No timer is earlier than this; microseconds of the monotonic clock.
    next_at_us: u64,
    /// Peers that were lost and have not spoken since: nothing that is answered waits for them.
    lost: BTreeSet<NodeId>,
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
        let keyspace = partitions.first().map_or(KeyspaceId(0), |p| p.group.keyspace);
        let held = partitions.into_iter().map(|p| (p.group, Held::new(p, me, seed))).collect();
        Leaderless {
            options: options.clone(),
            keyspace,
            me,
            actor,
            held,
            operations: BTreeMap::new(),
            newest_operation: None,
            queues: BTreeMap::new(),
            queued: 0,
            released: VecDeque::new(),
            awaiting_synced: VecDeque::new(),
            awaiting_written: VecDeque::new(),
            clock: HybridClock::default(),
            ceiling: Ceiling::default(),
            next_at_us: u64::MAX,
            lost: BTreeSet::new(),
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
        self.held.contains_key(&group)
    }

    /// What this replica keeps of a group.
    pub fn store(&self, group: GroupId) -> Option<&Store> {
        self.held.get(&group).map(|held| &held.store)
    }

    /// Whether this replica answers reads from its own store: see [`Leaderless::set_ready`].
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Carries out a command on one key, as its coordinator.
    pub fn execute(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        group: GroupId,
        command: &KeyCommand<'_>,
        with: With,
    ) {
        if let Some(error) = self.refusal(group, command, with) {
            return turn.refuse(requester, error);
        }
        let operation = self.operation(turn, requester, group, command, with);
        match operation.purpose {
            Purpose::Read if !self.queues.contains_key(command.key) => {
                self.begin_read(turn, operation);
            }
            Purpose::Read | Purpose::Overwrite | Purpose::Modify => self.enqueue(turn, operation),
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
        // Nothing from a node that is no replica of the group counts for anything.
        let Some(held) = self.held.get(&message.group()) else { return };
        if from == self.me || !held.replicas.contains(&from) {
            return;
        }
        self.lost.remove(&from);
        match message {
            // A coordinator wants a record kept.
            Message::Write { operation, group, key, record } => {
                self.on_write(turn, from, operation, group, &key, &record);
            }
            // A replica has kept ours, or holds a newer one.
            Message::WriteAnswer { operation, group, newer } => {
                self.on_write_answer(turn, from, operation, group, newer.as_ref());
            }
            // A coordinator wants to know what we hold.
            Message::Read { operation, group, key } => {
                self.on_read(turn, from, operation, group, &key);
            }
            // A replica says what it holds.
            Message::ReadAnswer { operation, group, answer } => {
                self.on_read_answer(turn, from, operation, group, answer);
            }
            // A coordinator has seen that we are stale.
            Message::Repair { group, key, record } => {
                self.on_repair(turn, group, &key, &record);
            }
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
        self.start_released(turn);
    }

    /// The log is kept further than before: own copies count, held replies go.
    pub fn on_durable(&mut self, turn: &mut Turn<'_>) {
        let (synced, written) = (turn.local.synced, turn.local.written);
        while let Some((_, id)) = self.awaiting_synced.pop_front_if(|(at, _)| *at <= synced) {
            self.advance(turn, id);
        }
        while let Some((_, id)) = self.awaiting_written.pop_front_if(|(at, _)| *at <= written) {
            self.advance(turn, id);
        }
        self.start_released(turn);
    }

    /// A deadline may have come: asks again, and gives up what has waited too long.
    pub fn on_tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_us;
        if now < self.next_at_us {
            return;
        }
        self.next_at_us = u64::MAX;
        let due = |operation: &Operation| operation.next_at_us() <= now;
        let ids: Vec<u64> =
            self.operations.iter().filter(|(_, o)| due(o)).map(|(id, _)| *id).collect();
        for id in ids {
            self.on_due(turn, id);
        }
        self.on_flushes_due(turn);
        self.on_fetches_due(turn);
        self.start_released(turn);
        let operations = self.operations.values().map(Operation::next_at_us).min();
        self.wake_at(operations.unwrap_or(u64::MAX));
    }

    /// When it wants a tick at the latest, in microseconds of the monotonic clock.
    pub fn next_deadline(&self) -> u64 {
        self.next_at_us
    }

    /// The connection to a peer broke. Questions to it are asked again by the timer; operations
    /// that are answered no longer wait for it.
    pub fn on_peer_lost(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        self.lost.insert(node);
        let answered = |operation: &Operation| operation.answered;
        let ids: Vec<u64> =
            self.operations.iter().filter(|(_, o)| answered(o)).map(|(id, _)| *id).collect();
        for id in ids {
            self.advance(turn, id);
        }
        self.start_released(turn);
    }

    fn wake_at(&mut self, at_us: u64) {
        self.next_at_us = self.next_at_us.min(at_us);
    }

    /// Why a command is not even begun.
    fn refusal(&self, group: GroupId, command: &KeyCommand<'_>, with: With) -> Option<String> {
        let Some(held) = self.held.get(&group).filter(|held| held.covers(command.key)) else {
            return Some(format!(
                "TRYAGAIN {} is no replica of slot {}; it cannot coordinate for it",
                self.me,
                slot_of(command.key)
            ));
        };
        let name = name(&command.verb);
        match command.verb.needs() {
            Needs::Nothing => {}
            Needs::Register => {
                return Some(format!(
                    "NEEDCOORD {name} makes a value from the newest one, and in a leaderless \
                     keyspace others write it at the same time; use SET with the whole value, or \
                     a leader-follower keyspace"
                ));
            }
            Needs::Coordination => {
                return Some(format!(
                    "NEEDCOORD {name} claims or compares, and a leaderless keyspace has nobody \
                     who decides between two at the same time; use plain SET, GET and DEL, or a \
                     leader-follower keyspace"
                ));
            }
        }
        let n = held.replicas.len();
        for (letter, count) in [("W", with.w), ("R", with.r)] {
            if count.is_some_and(|count| count == 0 || usize::from(count) > n) {
                let count = count.unwrap_or_default();
                return Some(format!(
                    "ERR {letter} must be between 1 and {n}, the replicas of a key; not {count}"
                ));
            }
        }
        let operations = self.operations.len() + self.queued;
        (operations >= OPERATIONS_MAX).then(|| {
            format!("TRYAGAIN {operations} operations in flight, no more than {OPERATIONS_MAX}")
        })
    }
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

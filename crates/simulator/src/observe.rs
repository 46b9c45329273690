//! What the harness sees and clients do not: events, and under which stamp and dot each written
//! value went into a log.

use crate::copies::Copies;
use crate::disk::Torn;
use crate::shown::{Showing, Shown};
use replication::leader_follower::entry::{Entry, Payload};
use replication::leader_follower::log_record::{Body, LogRecord, RECORD_KIND};
use replication::leader_follower::replication_log::run::Bodies;
use replication::node::forward::batch;
use replication::node::message::Message as NodeMessage;
use replication::storage::record::{Record, Value};
use replication::version::{Dot, EntryId, Stamp};
use replication::wire::Reader;
use replication::{Event, GroupId, Message, NodeId, Reply, RequestId, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

/// Every value that the workload writes starts with this byte and holds it nowhere else.
pub const TOKEN_START: u8 = b'~';
/// Every value that the workload writes ends with this byte and holds it nowhere else.
pub const TOKEN_END: u8 = b';';
/// How far before a value's bytes its record starts: stamp, dot, kind of value, length.
const RECORD_HEAD_BYTES: usize = 8 + 16 + 1 + 4;

/// Somebody began to lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// When.
    pub at_us: u64,
    /// Who.
    pub node: NodeId,
    /// What.
    pub group: GroupId,
    /// In which epoch.
    pub epoch: u64,
}

/// Somebody took an entry for committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Who.
    pub node: NodeId,
    /// In which group.
    pub group: GroupId,
    /// What.
    pub entry: EntryId,
    /// A hash of the entry's bytes.
    pub digest: u64,
    /// Where several groups exchange entries: the write's name, and a hash of what it writes.
    pub origin: Option<(Dot, u64)>,
}

impl Commit {
    /// An entry as a node's log has it.
    pub fn of(node: NodeId, group: GroupId, entry: EntryId, body: &[u8]) -> Commit {
        let origin = Entry::decode(body).ok().and_then(|entry| {
            let dot = entry.origin.as_ref()?.dot;
            Some((dot, hash(format!("{:?}", entry.payload).as_bytes())))
        });
        Commit { node, group, entry, digest: hash(body), origin }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// A value that went into a node's log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// When, first.
    pub at_us: u64,
    /// On which node, first.
    pub node: NodeId,
    /// Under which stamp.
    pub stamp: Stamp,
    /// Under which name.
    pub dot: Dot,
    /// Whether another node has logged it, too.
    pub spread: bool,
}

/// A write that was acknowledged with fewer acks than declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Below {
    /// The write.
    pub entry: EntryId,
    /// The copies that its leader counted.
    pub told: u64,
    /// The copies on disks.
    pub found: usize,
    /// The entry that opened its interval of the degrade ledger.
    pub interval: EntryId,
}

/// Groups that a node leads, each with its epoch.
pub type Reigns = Vec<(GroupId, u64)>;

/// All that the harness has seen in a run.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Starts of leaderships, in order.
    pub leaderships: Vec<Leadership>,
    /// Every entry that a process took for committed, in order.
    pub commits: Vec<Commit>,
    /// For each value, the names under which it was logged: more than one where a leaderless
    /// coordinator had to stamp it again.
    pub written: BTreeMap<String, Vec<Written>>,
    /// How often each interesting thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Who has which entries.
    pub copies: Copies,
    /// Writes that were acknowledged with fewer acks than declared.
    pub below: Vec<Below>,
    /// Wiped nodes that count again: for each group, who.
    pub admitted: Vec<(GroupId, NodeId)>,
    /// All entries that a leader has appended for a client: its connection, and the command's
    /// number there.
    pub asked: BTreeMap<(GroupId, EntryId), (u64, u64)>,
    /// The same the other way round: the entries that a command has become.
    pub entries: BTreeMap<(u64, u64), BTreeSet<(GroupId, EntryId)>>,
    /// Commands whose answer, no error, was let go: to the client, or to the node that it asked.
    pub answered: BTreeSet<(u64, u64)>,
    /// Commands that the node which was asked has sent to another one, if only at first.
    pub handed_on: BTreeSet<(u64, u64)>,
    /// Commands that were answered in a turn in which the node ceased to lead.
    pub answered_while_leaving: BTreeSet<(u64, u64)>,
    forwarded: BTreeMap<(Session, u64), (u64, u64)>,
    /// The entries that have brought each value into a group's log.
    pub(crate) origins: BTreeMap<String, BTreeSet<(GroupId, EntryId)>>,
    /// Answers that show written values, in order.
    pub shown: Vec<Shown>,
    pub(crate) showing: Showing,
    /// When values were written, by whom they are named after and their stamps' wall clock.
    moments: BTreeSet<(u64, u64)>,
    /// When processes ended that were not asked to.
    pub crashes: Vec<(NodeId, u64)>,
    /// When disks were emptied, or lost what they had said they hold.
    pub wipes: Vec<(NodeId, u64)>,
    /// Nodes on whose disk a bit was flipped.
    pub flipped: BTreeSet<NodeId>,
    /// Nodes whose log was damaged, so that they have come back with another disk.
    pub repaired: Vec<NodeId>,
    /// Which machines lost their power, and when.
    pub power_cuts: Vec<(u64, NodeId)>,
    /// Leaders that held a lease when another one was elected, in words.
    pub overlaps: Vec<String>,
    /// Leaders that led on although they could not, in words.
    pub unfit: Vec<String>,
    /// For each command that a node answered, with no error, to a client of its own: which groups
    /// that node led then, and in which epochs.
    pub led_at_answer: BTreeMap<(u64, u64), (NodeId, Reigns)>,
    /// The most bytes of entries, or of a snapshot, that a message has had.
    pub most_entry_bytes: u64,
    /// The first bound that was not kept, in words.
    pub over_bounds: Option<String>,
    /// Leaderships that began under a possible loss.
    pub losses: Vec<Leadership>,
    /// When more disks were lost at once than any group can do without.
    pub disasters: Vec<u64>,
    /// Of each of them, by its group and epoch: the members that may have lacked something then.
    pub suspects: BTreeMap<(GroupId, u64), BTreeSet<NodeId>>,
    /// The members that take themselves for suspect, as they last did while they were up.
    pub(crate) suspect_now: BTreeSet<(GroupId, NodeId)>,
    /// All events but commits and refused epochs, in order, with the nodes that they happened to.
    pub events: Vec<(NodeId, Event)>,
}

impl Observations {
    /// A node has found its log damaged, and is repaired from others.
    pub fn note_damaged(&mut self, id: NodeId, name: &str, now_us: u64) {
        self.count("damaged log repaired");
        self.repaired.push(id);
        // What it had acknowledged, and nobody else had, may have been there.
        self.wipes.push((id, now_us));
        if !self.flipped.contains(&id) {
            self.unfit.push(format!("{name} found its log damaged, and nothing had damaged it"));
        }
    }

    /// A message has so many bytes of entries, or of a snapshot.
    pub fn note_entry_bytes(&mut self, bytes: u64) {
        self.most_entry_bytes = bytes.max(self.most_entry_bytes);
    }

    /// Something interesting happened.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Takes note of what a crash has taken from a disk.
    pub fn torn(&mut self, power: bool, torn: &Torn) {
        if power {
            self.count("power cut");
        }
        if torn.lost > 0 {
            self.count(if torn.left > 0 { "torn write" } else { "unsynced data lost" });
        }
        if torn.name_back {
            self.count("file has its old name again");
        }
    }

    /// Takes note of an event.
    pub fn event(&mut self, at_us: u64, node: NodeId, event: &Event) {
        match event {
            Event::BecameLeader { group, epoch } => {
                if self.leaderships.iter().any(|before| before.group == *group) {
                    self.count("failover");
                }
                self.leaderships.push(Leadership { at_us, node, group: *group, epoch: *epoch });
            }
            Event::SteppedDown { reason, .. } => {
                self.count("stepped down");
                if reason.contains("disk") {
                    self.count("left for a stalled disk");
                }
                if reason.contains("stood still") {
                    self.count("left after standing still");
                }
            }
            Event::HandedOver { .. } => self.count("handed over"),
            Event::LeaseReads { .. } => self.count("lease read"),
            Event::LeaseLost { .. } => self.count("lease lost"),
            Event::PossibleLoss { group, epoch, .. } => {
                self.count("possible loss");
                self.losses.push(Leadership { at_us, node, group: *group, epoch: *epoch });
            }
            Event::EpochRefused { .. } => self.count("stale epoch refused"),
            // Seen in the nodes' logs: the event names only the newest of several.
            Event::Committed { .. } => {}
            Event::Truncated { .. } => self.count("truncation"),
            Event::LostWrites { .. } => self.count("lost write reported"),
            Event::AcknowledgedBelow { group, entry, copies, interval } => {
                self.count("degraded");
                let found = self.copies.of(*group, *entry).durable;
                let (entry, interval) = (*entry, *interval);
                self.below.push(Below { entry, told: *copies, found, interval });
            }
            Event::DegradeOpened { .. } => self.count("degrade opened"),
            Event::DegradeClosed { .. } => self.count("degrade closed"),
            Event::SnapshotInstalled { group, up_to } => {
                self.count("snapshot installed");
                self.copies.snapshot(node, *group, *up_to);
            }
            Event::SnapshotResumed { .. } => self.count("snapshot resumed"),
            Event::VoterAdmitted { group, node: member, .. } => {
                self.count("voter admitted");
                self.admitted.push((*group, *member));
            }
            Event::Deduplicated { .. } => self.count("retry deduplicated"),
            Event::ConflictResolved { .. } => self.count("conflict resolved"),
            Event::ReadRepaired { .. } => self.count("read repair"),
            Event::Alarm(_) => self.count("alarm"),
        }
        if !matches!(
            event,
            Event::Committed { .. } | Event::EpochRefused { .. } | Event::LeaseReads { .. }
        ) {
            self.events.push((node, event.clone()));
        }
    }

    /// Takes note of a committed entry.
    pub fn commit(&mut self, commit: Commit) {
        self.commits.push(commit);
    }

    /// Looks for written values in a record of a node's log, whatever model it belongs to: in the
    /// entries of a group, or else as [`Record`]s, in the encoding of `wire.rs`.
    pub fn logged(&mut self, at_us: u64, node: NodeId, bytes: &[u8]) {
        if self.note_entries(at_us, node, bytes) {
            return;
        }
        let mut from = 0;
        while let Some(found) = find(bytes.get(from..).unwrap_or(&[])) {
            let place = from + found;
            from = place + 1;
            let Some(start) = place.checked_sub(RECORD_HEAD_BYTES) else { continue };
            let Ok(record) = Reader(bytes.get(start..).unwrap_or(&[])).record() else { continue };
            from = place + self.record(at_us, node, &record).max(1);
        }
    }

    /// Takes note of a reply to a client.
    pub fn replied(&mut self, request: RequestId, reply: &Reply<'_>) {
        let name = (request.client.0, request.sequence);
        // What another node has answered is only handed on here.
        if !reply.is_error() && self.answered.insert(name) {
            self.showing(name, reply);
        }
    }

    /// Takes note of a command that is forwarded, and of the answer.
    pub fn sent(&mut self, message: &Message<'_>) {
        let Message::Node(message) = message else { return };
        match message {
            NodeMessage::Forward { from, commands, .. } => {
                for command in batch::commands(commands).flatten() {
                    if let Some(asker) = command.asker {
                        let asked = (asker.client.0, asker.sequence);
                        self.forwarded.insert((*from, command.token), asked);
                        self.handed_on.insert(asked);
                    }
                }
            }
            NodeMessage::Answer { to, answers } => {
                for (token, reply, _) in batch::answers(answers).flatten() {
                    let asked = self.forwarded.get(&(*to, token)).copied();
                    if let Some(name) = asked.filter(|_| !reply.is_error()) {
                        self.answered.insert(name);
                        self.showing(name, &reply);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes note of entries, if it is a record of them: of the values that they write, and of
    /// those who asked for them. Not of entries that change nothing and only remember a reply:
    /// nothing can be lost with them.
    fn note_entries(&mut self, at_us: u64, node: NodeId, bytes: &[u8]) -> bool {
        let Some((&RECORD_KIND, record)) = bytes.split_first() else { return false };
        let Ok(LogRecord { group, body: Body::Entries(run) }) =
            LogRecord::decode(&mut Reader(record))
        else {
            return false;
        };
        for entry in Bodies::of(&run).flatten().flat_map(Entry::decode) {
            // A record that has its names from its entry is not in the bytes as it stands.
            let changes = match &entry.payload {
                Payload::Changes(changes) => Some(&changes[..]),
                _ => None,
            };
            for record in changes.unwrap_or(&[]).iter().filter_map(|change| change.record.as_ref())
            {
                self.record(at_us, node, record);
                if let Value::String(value) = &record.value {
                    self.value_in_entry(value, group, entry.id);
                }
            }
            if let Some(asker) = &entry.asker
                && !changes.is_some_and(<[_]>::is_empty)
            {
                let request = (asker.client.0, asker.sequence);
                self.asked.insert((group, entry.id), request);
                self.entries.entry(request).or_default().insert((group, entry.id));
            }
        }
        true
    }

    /// Takes note of a record; returns the length of its value.
    fn record(&mut self, at_us: u64, node: NodeId, record: &Record<'_>) -> usize {
        let Value::String(value) = &record.value else { return 0 };
        let Some(token) = tokens(value).pop() else { return 0 };
        let written = Written { at_us, node, stamp: record.stamp, dot: record.dot, spread: false };
        let names = self.written.entry(token).or_default();
        let same = |name: &&mut Written| name.dot == record.dot && name.stamp == record.stamp;
        match names.iter_mut().find(same) {
            Some(name) => name.spread |= name.node != node,
            None => {
                names.push(written);
                // Of several in one millisecond, something else must say which was first.
                if !self.moments.insert((record.dot.actor, record.stamp.wall_ms())) {
                    self.count("two writes in one millisecond");
                }
            }
        }
        value.len()
    }

    /// The largest stamp under which a value was logged.
    pub fn stamp_of(&self, value: &str) -> Option<Stamp> {
        self.written.get(value)?.iter().map(|written| written.stamp).max()
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == TOKEN_START)
}

/// The written values of which a string is made: one, or more after APPENDs.
pub fn tokens(value: &[u8]) -> Vec<String> {
    value
        .split_inclusive(|byte| *byte == TOKEN_END)
        .filter(|part| part.first() == Some(&TOKEN_START) && part.last() == Some(&TOKEN_END))
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;
    use crate::cluster::{Cluster, Outside};
    use crate::options::{ModelName, Options};
    use crate::trace::Trace;
    use replication::mutant::Mutants;
    use replication::wire::Writer;

    #[test]
    fn values_are_found_as_a_groups_entries_have_them() {
        let options = Options::of(3, ModelName::LeaderFollower, Mutants::default());
        let mut cluster = Cluster::new(options.plan, 3, Trace::new(false));
        let mut written = None;
        for number in 0..100 {
            let value = format!("~v{number};");
            let connection = cluster.connect(NodeId(0));
            let words = ["SET", "register:0", &value].map(String::from).to_vec();
            cluster.request(connection, words);
            let until_us = cluster.now_us + 100_000;
            while let Some(outside) = cluster.next(until_us) {
                if matches!(outside, Outside::Reply { reply: Reply::Ok, .. }) {
                    written = Some(value.clone());
                }
            }
        }
        let value = written.expect("nothing was written");
        assert!(cluster.observations.written.contains_key(&value), "{value}");
    }

    #[test]
    fn values_are_found_in_any_record_with_their_names() {
        let record = |stamp, value: &'static str| Record {
            stamp: Stamp(stamp),
            dot: Dot { actor: 7, counter: stamp },
            value: Value::String(value.as_bytes().into()),
            expiry_stamp: Stamp(0),
            expires_at_ms: None,
            increments: Default::default(),
        };
        let mut bytes = vec![1, 2, 3, TOKEN_START];
        Writer(&mut bytes).record(&record(5, "~c1.1;"));
        Writer(&mut bytes).bytes(b"key");
        Writer(&mut bytes).record(&record(6, "~c1.1;~c2.1;"));
        let mut observations = Observations::default();
        observations.logged(1, NodeId(0), &bytes);
        observations.logged(2, NodeId(1), &bytes);
        let dots = |token: &str| -> Vec<u64> {
            observations.written.get(token).into_iter().flatten().map(|w| w.dot.counter).collect()
        };
        assert_eq!(dots("~c1.1;"), [5]);
        assert_eq!(dots("~c2.1;"), [6]);
        assert_eq!(observations.stamp_of("~c2.1;"), Some(Stamp(6)));
    }
}

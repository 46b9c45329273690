//! The leader orders the writes and sends its log to the followers.

use super::acks::degrade::Degrading;
use super::acks::held::Held;
use super::entry::{Entry, Once, Origin, Payload};
use super::lease::Lease;
use super::log_record;
use super::message::{Body, Matched, Wants};
use super::snapshot::Sending;
use super::{Group, Role};
use crate::mutant::Mutant;
use crate::turn::{Asker, Turn};
use crate::version::{EntryId, Stamp};
use crate::{Event, Incarnation, NodeId};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes of entries in a message that only asks where a follower's log agrees. One that does not
/// answer gets it at every heartbeat, and it gathers in front of the follower.
const PROBE_BYTES_MAX: usize = 16 << 10;

/// Heartbeat intervals without progress after which a follower is sent the same again.
const QUIET_TICKS_MAX: u32 = 3;

/// What a leader knows and owes.
pub struct Leader {
    /// The empty entry that opens its epoch.
    pub(super) first_index: u64,
    /// When the leadership began.
    since_us: u64,
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// Members whose new disk is about to be admitted, with the entry that does it.
    admitting: BTreeMap<NodeId, u64>,
    pub(super) held: Held,
    pub(super) lease: Lease,
    /// Whether everybody has been told that it serves.
    is_announced: bool,
    /// Up to where writes are visible; 0 until the first entry of the epoch is committed.
    pub(super) visible: u64,
    /// What becomes of acks that are missing, where they may be lowered.
    pub(super) degrading: Degrading,
}

/// What a leader knows of one follower.
#[derive(Debug, Default)]
pub struct Progress {
    /// The disk that spoke last.
    pub(super) incarnation: Incarnation,
    /// Held by the follower, matched in this epoch.
    pub(super) received: u64,
    /// Durably held.
    pub(super) durable: u64,
    /// Committed there, and shown to readers.
    pub(super) applied: u64,
    /// On disk there, whatever counts as durable.
    pub(super) synced: u64,
    /// What it was told last: the commit index, and what it is to speak about at once.
    told: (u64, Wants),
    /// The next entry to send.
    next: u64,
    /// Where the logs agree is not known yet: one message at a time.
    probing: bool,
    probe_due: bool,
    /// The last index of each append on its way, and its bytes.
    pub(super) in_flight: VecDeque<(u64, usize)>,
    quiet_ticks: u32,
    /// The newest heartbeat round that it has confirmed.
    pub(super) confirmed_round: u64,
    heard_us: u64,
    pub(super) snapshot: Option<Sending>,
    /// It has a snapshot and does not have yet what was committed meanwhile: the log stays, or it
    /// would need the next snapshot at once.
    pub(super) is_catching_up: bool,
}

impl Progress {
    fn starting_at(next: u64, now_us: u64) -> Progress {
        let start = Progress { next, probing: true, probe_due: true, ..Progress::default() };
        Progress { heard_us: now_us, ..start }
    }

    /// The follower has started anew and does not know what it had matched; what it durably has
    /// still counts.
    fn probe_anew(&mut self, last: u64) {
        self.received = 0;
        self.applied = 0;
        self.told = (0, Wants::default());
        if !self.probing && self.snapshot.is_none() {
            self.probing = true;
            self.probe_due = true;
            self.next = last + 1;
            self.in_flight.clear();
        }
    }

    fn rewind(&mut self) {
        self.next = self.received + 1;
        self.in_flight.clear();
        self.quiet_ticks = 0;
    }

    /// When the follower was last heard, in microseconds of the monotonic clock.
    pub(super) fn heard_us(&self) -> u64 {
        self.heard_us
    }

    pub(super) fn take_probe_due(&mut self) -> bool {
        core::mem::take(&mut self.probe_due)
    }

    pub(super) fn set_probe_due(&mut self) {
        self.probe_due = true;
    }

    /// The follower has a state up to an index from a snapshot: the log goes on after it.
    pub(super) fn go_on_after(&mut self, index: u64) {
        self.snapshot = None;
        self.is_catching_up = true;
        self.next = index + 1;
        self.probing = true;
        self.probe_due = true;
        self.in_flight.clear();
    }

    /// The follower says nothing: no part of the log is kept for its snapshot any longer.
    fn give_up_snapshot(&mut self, last: u64) {
        self.is_catching_up = false;
        if self.snapshot.take().is_some() {
            self.probing = true;
            self.probe_due = true;
            self.next = last + 1;
            self.in_flight.clear();
        }
    }
}

impl Leader {
    /// When it wants a tick at the latest because of what it holds.
    pub fn next_deadline(&self) -> u64 {
        self.held.next_deadline()
    }
}

impl Group {
    /// The election is won: everything in the log is applied, and the epoch opens with an empty
    /// entry. Until that is committed, nobody is answered.
    pub(super) fn become_leader(&mut self, turn: &mut Turn<'_>) {
        let now_us = turn.now.monotonic_us;
        self.end_older_handover(turn);
        let (opening, loss) = self.opening(turn);
        let first_index = self.log.last_index() + 1;
        let progress = self
            .others(turn.local.me)
            .into_iter()
            .map(|node| (node, Progress::starting_at(first_index, now_us)))
            .collect();
        self.role = Role::Leader(Box::new(Leader {
            first_index,
            since_us: now_us,
            progress,
            admitting: BTreeMap::new(),
            held: Held::default(),
            lease: Lease::default(),
            is_announced: false,
            visible: 0,
            degrading: Degrading::default(),
        }));
        self.leader = Some(turn.local.me);
        self.apply_tail();
        turn.event(Event::BecameLeader { group: self.id, epoch: self.epoch });
        self.note_unheard(turn.local.me);
        if let Some(loss) = loss {
            self.tell_loss(turn, loss);
        }
        self.end_suspicion(turn);
        self.append(turn, None, opening);
        self.tick_due_us = now_us;
    }

    /// Applies what an earlier leader left uncommitted, so that it can be taken back.
    fn apply_tail(&mut self) {
        self.covered_by_log = self.covered.clone();
        for index in self.commit + 1..=self.log.last_index() {
            let Some(kept) = self.log.get(index) else { continue };
            let Ok(entry) = Entry::decode(&kept.body) else { continue };
            self.state.apply(&entry, true);
            if let Some(origin) = &entry.origin {
                self.covered_by_log.advance(origin.dot);
            }
            if let Payload::Covers(vector) = &entry.payload {
                self.covered_by_log.merge(vector);
            }
        }
    }

    /// Appends an entry of this leader: to the log, to the node's log, and to the state.
    pub fn append(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Option<Origin>,
        payload: Payload<'_>,
    ) -> EntryId {
        let stamp = self.next_stamp(turn);
        self.append_entry(turn, stamp, origin, None, None, payload)
    }

    /// The same for a client's command, with a stamp that was taken before, because the payload's
    /// records carry it.
    pub fn append_for_asker(
        &mut self,
        turn: &mut Turn<'_>,
        stamp: Stamp,
        origin: Option<Origin>,
        payload: Payload<'_>,
    ) -> EntryId {
        let asker = turn.local.asker.clone();
        self.append_entry(turn, stamp, origin, asker, None, payload)
    }

    /// A stamp larger than every one in this group's log, and not before the wall clock. The group
    /// has no part in the stamps of others: a node whose clock is wrong spoils what it leads, and
    /// nothing else.
    pub fn next_stamp(&self, turn: &Turn<'_>) -> Stamp {
        self.newest_stamp.next().max(Stamp::at(turn.now.wall_ms))
    }

    /// Takes note of a stamp that a write will have seen.
    pub fn observe(&mut self, stamp: Stamp) {
        self.newest_stamp = self.newest_stamp.max(stamp);
    }

    /// The same with everything said.
    pub fn append_entry(
        &mut self,
        turn: &mut Turn<'_>,
        stamp: Stamp,
        origin: Option<Origin>,
        asker: Option<Asker>,
        once: Option<Once<'_>>,
        payload: Payload<'_>,
    ) -> EntryId {
        let id = EntryId { epoch: self.epoch, index: self.log.last_index() + 1 };
        let entry = Entry { id, stamp, origin, asker, once, payload };
        let body = entry.encode();
        self.log_acknowledged(turn);
        let record = log_record::Body::Entry(Cow::Borrowed(&body));
        let position = self.log_record(turn, record, self.options.durability);
        self.log.append(id.epoch, position, Arc::from(body));
        self.note_opening(&entry);
        self.newest_stamp = self.newest_stamp.max(stamp);
        if let Some(origin) = &entry.origin {
            self.covered_by_log.advance(origin.dot);
        }
        if let Payload::Covers(vector) = &entry.payload {
            self.covered_by_log.merge(vector);
        }
        for key in self.state.apply(&entry, true) {
            turn.event(Event::ConflictResolved { keyspace: self.id.keyspace, key });
        }
        if turn.local.mutants.is(Mutant::OwnCopyCountsEarly) {
            self.count_copies(turn);
        }
        id
    }

    /// The id that the next entry of this leader will have.
    pub fn next_id(&self) -> EntryId {
        EntryId { epoch: self.epoch, index: self.log.last_index() + 1 }
    }

    /// Whether the leader may append: not while too much is uncommitted.
    pub fn has_room(&self) -> bool {
        let uncommitted = self.log.last_index().saturating_sub(self.commit);
        uncommitted < self.limits.uncommitted_entries_max as u64
            && self.log.bytes_after(self.commit) < self.limits.uncommitted_bytes_max
    }

    /// Whether this leader serves and has not said so yet.
    pub fn take_announcement(&mut self) -> bool {
        let serves = self.is_serving();
        let Role::Leader(leader) = &mut self.role else { return false };
        serves && !core::mem::replace(&mut leader.is_announced, serves)
    }

    /// A tick: leads on only while enough replicas are heard, and sends again what was lost.
    pub(super) fn lead_on(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let now_us = turn.now.monotonic_us;
        let silence_us = self.timing.election_timeout_us;
        let heard = 1 + leader
            .progress
            .iter()
            .filter(|(node, progress)| {
                self.voters.counts(**node, progress.incarnation)
                    && now_us.saturating_sub(progress.heard_us) < silence_us
            })
            .count();
        if heard < self.quorum.commit && now_us.saturating_sub(leader.since_us) > silence_us {
            let need = self.quorum.commit;
            let reason = alloc::format!("heard from {heard} of {need} needed replicas");
            return self.step_down(turn, Cow::Owned(reason));
        }
        let last = self.log.last_index();
        for progress in leader.progress.values_mut() {
            if now_us.saturating_sub(progress.heard_us) >= silence_us {
                progress.give_up_snapshot(last);
            }
            progress.probe_due = true;
            // What was asked may have been lost on its way: it is asked again.
            progress.told = (0, Wants::default());
            let owes_word = !progress.in_flight.is_empty() || progress.durable < progress.received;
            progress.quiet_ticks += u32::from(owes_word);
            if progress.quiet_ticks > QUIET_TICKS_MAX {
                // What was sent may be lost, or the word about it: asks where the follower is.
                progress.rewind();
                progress.probing = true;
            }
        }
        self.mark_for_degrade(turn);
        self.admit_learners(turn);
        self.mind_disk(turn);
    }

    /// A member whose disk does not count yet and who has caught up is admitted by an entry.
    fn admit_learners(&mut self, turn: &mut Turn<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.commit < leader.first_index || self.handover.is_some() {
            return;
        }
        let commit = self.commit;
        leader.admitting.retain(|_, index| *index > commit);
        let caught_up: Vec<(NodeId, Incarnation)> = leader
            .progress
            .iter()
            .filter(|(node, progress)| {
                progress.durable >= commit
                    && progress.durable > 0
                    && !self.voters.counts(**node, progress.incarnation)
                    && !leader.admitting.contains_key(node)
            })
            .map(|(node, progress)| (*node, progress.incarnation))
            .collect();
        for (node, incarnation) in caught_up {
            let id = self.append(turn, None, Payload::Voter(node, incarnation));
            if let Role::Leader(leader) = &mut self.role {
                leader.admitting.insert(node, id.index);
            }
        }
    }

    /// The connection to a follower broke: what was on its way may be lost.
    pub fn on_peer_lost(&mut self, node: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&node)
        {
            progress.rewind();
        }
    }

    /// A follower says how far its log is this leader's.
    pub(super) fn on_matched(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        matched: Matched,
    ) {
        let Matched { received, durable, applied, synced } = matched;
        let (last, commit) = (self.log.last_index(), self.commit);
        let Some(progress) = self.progress_of(turn, from, incarnation) else { return };
        if received > last || durable.max(applied).max(synced) > received {
            return;
        }
        if received == 0 {
            return progress.probe_anew(last);
        }
        progress.received = progress.received.max(received);
        progress.durable = progress.durable.max(durable);
        progress.applied = progress.applied.max(applied);
        progress.synced = progress.synced.max(synced);
        progress.is_catching_up &= received < commit;
        if core::mem::take(&mut progress.probing) {
            // Not from where the probe was: a late word may be about an earlier place, and what
            // lies between was never sent.
            progress.next = progress.received;
        }
        progress.quiet_ticks = 0;
        progress.next = progress.next.max(progress.received + 1);
        while progress.in_flight.pop_front_if(|(index, _)| *index <= received).is_some() {}
        self.hear_again(from, incarnation);
        self.snapshot_is_there(turn, from, incarnation, received);
        self.count_copies(turn);
    }

    /// A follower's log does not go on where the append did.
    pub(super) fn on_mismatch(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        previous: EntryId,
        hint: u64,
    ) {
        let start = self.log.start().index;
        let Some(progress) = self.progress_of(turn, from, incarnation) else { return };
        if progress.probing && progress.next.checked_sub(1) == Some(previous.index) {
            let agrees = hint.min(previous.index.saturating_sub(1)).max(progress.received);
            // The hint may leap over where the logs agree: no snapshot while this log's very
            // beginning has not been tried.
            let first = if previous.index > start { start } else { 0 };
            progress.next = agrees.max(first) + 1;
            progress.probe_due = true;
        }
    }

    /// What is known of a follower, whose word has just come; anew if its disk is another one.
    pub(super) fn progress_of(
        &mut self,
        turn: &Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
    ) -> Option<&mut Progress> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let progress = leader.progress.get_mut(&from)?;
        if progress.incarnation != incarnation && progress.incarnation != Incarnation::default() {
            *progress = Progress::starting_at(self.log.last_index() + 1, turn.now.monotonic_us);
        }
        progress.incarnation = incarnation;
        progress.heard_us = turn.now.monotonic_us;
        Some(progress)
    }

    /// Sends each follower what it lacks, as far as its window allows.
    pub(super) fn send_appends(&mut self, turn: &mut Turn<'_>) {
        if turn.local.synced < self.epoch_position {
            return;
        }
        let wants = self.wants();
        for node in self.others(turn.local.me) {
            while self.send_append(turn, node, wants) {}
        }
    }

    /// Sends one message; whether there may be another.
    fn send_append(&mut self, turn: &mut Turn<'_>, node: NodeId, wants: Wants) -> bool {
        let (last, commit) = (self.log.last_index(), self.commit_to_tell());
        let window_bytes_max = self.limits.window_bytes_max;
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.progress.get_mut(&node) else { return false };
        if progress.snapshot.is_some() {
            self.send_snapshot_piece(turn, node);
            return false;
        }
        let due = match progress.probing {
            true => progress.probe_due,
            false => progress.next <= last && progress.has_window(window_bytes_max),
        };
        // Somebody waits for more than durable copies: the follower is told so, and what is
        // committed, although there is nothing to send.
        let (told_commit, told_wants) = progress.told;
        let asks = wants.exceeds(told_wants) || (wants.applied && commit > told_commit);
        if !due && (progress.probing || !asks) {
            return false;
        }
        progress.probe_due = false;
        let Some(previous) = self.log.id_at(progress.next - 1) else {
            self.start_snapshot(turn, node);
            return false;
        };
        progress.told = (commit, wants);
        let bytes_max = match progress.probing {
            true => self.limits.append_bytes_max.min(PROBE_BYTES_MAX),
            false => self.limits.append_bytes_max,
        };
        let mut entries = Vec::new();
        let mut index = progress.next;
        while let Some(kept) = self.log.get(index).filter(|_| due) {
            crate::wire::Writer(&mut entries).bytes(&kept.body);
            index += 1;
            if entries.len() >= bytes_max {
                break;
            }
        }
        let probing = progress.probing;
        if !probing && due {
            progress.next = index;
            progress.in_flight.push_back((index - 1, entries.len()));
        }
        let (commit, history) = (self.commit_to_tell(), self.history());
        let entries = Cow::Owned(entries);
        let body = Body::Append { previous, commit, wants, entries, history };
        turn.send(node, self.message(body));
        !probing && due
    }
}

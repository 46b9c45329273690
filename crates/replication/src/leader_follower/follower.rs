//! A follower copies the leader's log, and says how far it has it.

use super::entry::{Entry, Head, Payload};
use super::log_record;
use super::message::{Body, Matched, Wants};
use super::replication_log::run::Bodies;
use super::{Group, Role};
use crate::mutant::Mutant;
use crate::storage::store::{IN_STEP, look_ahead_by};
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Event, NodeId, Position};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What a follower knows about the leader of its epoch.
#[derive(Debug, Default)]
pub struct Follower {
    /// Up to where this log is the leader's, as shown by its messages of this epoch.
    matched: u64,
    /// The leader's commit index.
    pub(super) commit: u64,
    /// The last thing said.
    said: Matched,
    /// What the leader wants to be told at once, besides durable copies.
    wants: Wants,
    /// Whether the leader waits for a word although nothing is new.
    owes_answer: bool,
    /// What this follower knows to be committed is in the leader's log.
    pub(super) agreed: bool,
    /// It is not.
    pub(super) diverged: bool,
    /// Up to where this log was matched when that was too little, and since when it is.
    lacked_after: Option<(u64, u64)>,
}

/// The part of a run that this log does not have.
struct NewEntries<'a> {
    first_index: u64,
    run: &'a [u8],
}

impl Follower {
    /// Up to where this log is known to be the leader's of this epoch.
    pub(super) fn matched(&self) -> u64 {
        self.matched
    }

    /// Whether this follower has just started, or has lacked the same committed entries for a
    /// whole heartbeat interval: then the leader may think that it has matched them, in its
    /// process before. Heartbeats come more often than that where readers wait for them.
    fn is_forgotten(&mut self, now_us: u64, interval_us: u64) -> bool {
        if self.matched >= self.commit {
            self.lacked_after = None;
            return self.matched == 0;
        }
        let same = self.lacked_after.filter(|(matched, _)| *matched == self.matched);
        let (_, since_us) = *self.lacked_after.insert(same.unwrap_or((self.matched, now_us)));
        self.matched == 0 || now_us.saturating_sub(since_us) >= interval_us
    }
}

impl Group {
    /// This node follows: somebody leads in this epoch.
    pub(super) fn follow(&mut self, turn: &mut Turn<'_>, leader: NodeId) {
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
        }
        if self.leader != Some(leader) {
            self.note_elected(turn);
        }
        self.leader = Some(leader);
        self.heard_leader_us = turn.now.monotonic_us;
        self.reset_election_timer(turn);
    }

    /// A heartbeat of a leader. Returns its epoch if this node is in it, and can say so.
    pub fn on_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        epoch: u64,
        commit: u64,
    ) -> Option<u64> {
        if !self.members.contains(&from) || !self.members.contains(&turn.local.me) {
            return None;
        }
        if self.refuses_leap(turn, from, epoch) {
            return None;
        }
        if epoch > self.epoch {
            self.adopt_epoch(turn, epoch, "a peer leads a newer epoch");
        }
        if epoch == self.epoch && !self.leads() {
            self.follow(turn, from);
            if commit > 0 {
                self.note_new_leader(turn, from, epoch);
            }
            self.follower.commit = self.follower.commit.max(commit);
            self.follow_commit(turn);
            let interval_us = self.timing.heartbeat_interval_us;
            if self.follower.is_forgotten(turn.now.monotonic_us, interval_us) {
                self.say_epoch(turn, from, Body::Matched(Matched::default()));
            }
            self.ask_last(turn, from);
        }
        if epoch < self.epoch {
            turn.event(Event::EpochRefused { group: self.id, from, epoch });
            // Told as a message, and never as an answer to the round: a late heartbeat of the
            // sender's former process must not confirm its present leadership.
            self.say_epoch(turn, from, Body::EpochOver);
            return None;
        }
        if turn.local.synced < self.epoch_position {
            return None;
        }
        self.promise();
        Some(self.epoch)
    }

    pub(super) fn on_append(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        previous: EntryId,
        (commit, history): (u64, u64),
        wants: Wants,
        entries: &[u8],
    ) {
        if self.leads() {
            return;
        }
        let first_word = self.leader.is_none();
        self.follow(turn, from);
        if !self.agrees(turn, from, Some(history)) {
            return;
        }
        self.follower.wants = wants;
        if first_word && turn.local.mutants.is(Mutant::TruncateToCommit) {
            self.cut(turn, self.commit);
        }
        if let Some(hint) = self.mismatch(turn, previous) {
            return self.say_epoch(turn, from, Body::Mismatch { previous, hint });
        }
        let Some(matched) = self.take_entries(turn, previous, entries) else {
            return turn.event(Event::Alarm(Cow::Borrowed("malformed entries from the leader")));
        };
        let new = matched > self.follower.matched;
        self.follower.matched = self.follower.matched.max(matched);
        if let Some(last) = self.log.id_at(matched).filter(|last| last.epoch == self.epoch) {
            self.hear_last(from, last);
        }
        self.follower.commit = self.follower.commit.max(commit);
        self.follower.owes_answer |= !new;
        self.follow_commit(turn);
    }

    /// Where the logs may agree, if they do not at `previous`. What is committed here agrees with
    /// every leader.
    fn mismatch(&self, turn: &Turn<'_>, previous: EntryId) -> Option<u64> {
        if previous.index <= self.commit.max(self.log.start().index) {
            return None;
        }
        match self.log.id_at(previous.index) {
            Some(id) if id == previous => None,
            Some(_) if turn.local.mutants.is(Mutant::MatchByIndex) => None,
            Some(_) => Some(self.log.before_epoch_at(previous.index).max(self.commit)),
            None => Some(self.log.last_index()),
        }
    }

    /// Takes the entries that are new; returns up to where this log is now the leader's. Where one
    /// of them is malformed, nothing is taken.
    fn take_entries(&mut self, turn: &mut Turn<'_>, previous: EntryId, run: &[u8]) -> Option<u64> {
        let new = self.new_entries(previous, run)?;
        let (mut newest, mut tells_epochs) = (self.newest_stamp, false);
        let mut index = new.first_index;
        for body in Bodies::of(new.run) {
            let head = Head::checked(body.ok()?).ok()?;
            if head.id.index != index || head.id.epoch > self.epoch {
                return None;
            }
            index += 1;
            newest = newest.max(head.stamp);
            tells_epochs |= head.is_of_epochs();
        }
        if new.run.is_empty() {
            return Some(new.first_index - 1);
        }
        if new.first_index <= self.log.last_index() {
            self.cut(turn, new.first_index - 1);
        }
        self.log.append_run(new.run);
        self.newest_stamp = newest;
        if tells_epochs {
            let entries = Bodies::of(new.run).flatten().flat_map(Entry::decode);
            entries.for_each(|entry| self.epochs.note(&entry));
            self.find_named_voters();
        }
        Some(index - 1)
    }

    /// The part of a run from the first entry on that this log does not have. `None` if the run is
    /// malformed before, or would take the place of what is matched.
    fn new_entries<'a>(&self, previous: EntryId, run: &'a [u8]) -> Option<NewEntries<'a>> {
        let mut first_index = previous.index + 1;
        let mut bodies = Bodies::of(run);
        loop {
            let new = NewEntries { first_index, run: bodies.rest() };
            if new.run.is_empty() || first_index > self.log.last_index() {
                return Some(new);
            }
            let id = Entry::id_of(bodies.next()?.ok()?).ok()?;
            if id.index != first_index {
                return None;
            }
            let is_settled = first_index <= self.commit.max(self.log.start().index);
            if !is_settled && self.log.id_at(first_index) != Some(id) {
                return (first_index > self.follower.matched).then_some(new);
            }
            first_index += 1;
        }
    }

    /// Cuts the log after an index; what is cut is kept aside.
    pub(super) fn cut(&mut self, turn: &mut Turn<'_>, last_kept: u64) {
        let before = self.log.last_index();
        if before <= last_kept {
            return;
        }
        self.put_aside(turn, last_kept);
        self.log.cut_above(last_kept);
        self.epochs.cut(last_kept);
        self.voters.cut(self.log.last());
        self.find_named_voters();
        self.log_record(turn, log_record::Body::Cut { last_kept }, self.options.durability);
        let (last_kept, cut) = (self.log.last(), before - self.log.last_index());
        turn.event(Event::Truncated { group: self.id, last_kept, cut });
    }

    /// Applies what is committed, matched in this epoch and durable here.
    pub(super) fn follow_commit(&mut self, turn: &mut Turn<'_>) {
        let durable = self.log.durable_index(turn.local.durable(self.options.durability));
        let target = self.follower.commit.min(self.follower.matched).min(durable);
        if target > self.commit {
            self.apply_up_to(turn, target);
            let entry = self.log.id_at(target).unwrap_or_default();
            turn.event(Event::Committed { group: self.id, entry });
        }
    }

    /// Applies the entries up to an index, which are committed.
    fn apply_up_to(&mut self, turn: &mut Turn<'_>, target: u64) {
        while self.commit < target {
            let before = self.commit;
            self.apply_run(turn, target);
            // A run may also end where its entries do not lie together with the next.
            if self.commit == before && !self.commit_special(turn) {
                break;
            }
        }
        self.state.commit(self.commit);
        self.decide_lost(turn);
        self.log.prune(self.commit, self.log_bytes_max());
        self.forget_snapshot_below(self.commit);
    }

    /// Applies entries as far as they lie together, up to the first that means more than the
    /// records that it changes.
    fn apply_run(&mut self, turn: &Turn<'_>, target: u64) {
        let Some((run, _)) = self.log.run_after(self.commit, usize::MAX) else { return };
        let most = usize::try_from(target - self.commit).unwrap_or(usize::MAX);
        let is_plain = |body: &&[u8]| Head::of(body).is_ok_and(|head| head.is_plain());
        let mut bodies = Bodies::of(run).flatten().take(most).take_while(is_plain).peekable();
        while bodies.peek().is_some() {
            // The bytes are passed over for their keys first: an entry is large, and is moved often
            // before it lies in a list.
            let (mut step, mut hashes) = ([&[][..]; IN_STEP], [None; IN_STEP]);
            let filled = step.iter_mut().zip(bodies.by_ref()).map(|(place, body)| *place = body);
            let count = filled.count();
            let step = step.get_mut(..count).unwrap_or_default();
            if turn.local.mutants.is(Mutant::AppliedOutOfOrder) {
                step.reverse();
            }
            let store = &self.state.store;
            for (place, body) in hashes.iter_mut().zip(&*step) {
                *place = Head::only_key(body).map(|key| store.hashes(key));
            }
            look_ahead_by(hashes.iter().flatten().map(|hashes| (store, *hashes)));
            for (body, hashes) in step.iter().zip(hashes) {
                let mut entry = Entry::decode_to_apply(body);
                if let Ok(entry) = &mut entry {
                    plant(turn, entry);
                    if let Payload::Changes(changes) = &mut entry.payload {
                        changes.know(hashes);
                    }
                    // The leader has told about conflicts when it appended the entry.
                    self.state.apply(entry, false);
                    if let Some(origin) = &entry.origin {
                        self.covered.advance(origin.dot);
                    }
                }
                self.commit += 1;
            }
        }
    }

    /// Applies the next entry, whose commit means more than its records. Whether there is one.
    fn commit_special(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(body) = self.log.get(self.commit + 1).map(Vec::from) else { return false };
        if let Ok(mut entry) = Entry::decode_to_apply(&body) {
            plant(turn, &mut entry);
            self.state.apply(&entry, false);
            self.on_entry_committed(turn, &entry);
        }
        self.commit += 1;
        true
    }

    /// Commits entries of a leader's log, which are applied.
    pub(super) fn commit_applied(&mut self, turn: &mut Turn<'_>, target: u64) {
        while self.commit < target {
            let Some((run, _)) = self.log.run_after(self.commit, usize::MAX) else { break };
            let is_plain = |body: &&[u8]| Head::covers_if_plain(body, &mut self.covered);
            let most = usize::try_from(target - self.commit).unwrap_or(usize::MAX);
            let plain = Bodies::of(run).flatten().take(most).take_while(is_plain).count();
            self.commit += plain as u64;
            // A run may also end where its entries do not lie together with the next.
            if plain > 0 {
                continue;
            }
            let Some(body) = self.log.get(self.commit + 1).map(Vec::from) else { break };
            self.commit += 1;
            if let Ok(entry) = Entry::decode(&body) {
                self.on_entry_committed(turn, &entry);
            }
        }
    }

    /// What a committed entry means beyond the records.
    fn on_entry_committed(&mut self, turn: &mut Turn<'_>, entry: &Entry<'_>) {
        if let Some(origin) = &entry.origin {
            self.covered.advance(origin.dot);
        }
        match &entry.payload {
            Payload::Voter(node, incarnation) => {
                self.on_voter_committed(turn, entry.id, *node, *incarnation);
            }
            Payload::Covers(vector) => self.covered.merge(vector),
            Payload::OpeningAfterLoss(_, voters) => {
                self.on_voters_replaced(turn, entry.id, voters);
            }
            Payload::Degrade(note) => self.on_degrade_committed(turn, entry, *note),
            Payload::Opening(_) | Payload::HeardOut(_) | Payload::Changes(_) | Payload::Clear => {}
        }
    }

    /// Says how far this log is the leader's: once a turn, and only if that is new or asked for.
    pub(super) fn send_matched(&mut self, turn: &mut Turn<'_>) {
        let Some(leader) = self.leader else { return };
        if self.follower.matched == 0 || turn.local.synced < self.epoch_position {
            return;
        }
        let (received, synced) = (self.follower.matched, turn.local.synced);
        self.trust_again(turn);
        let durable = match turn.local.mutants.is(Mutant::AckBeforeDurable) {
            true => received,
            false if self.says_suspect(turn) => 0,
            false => {
                let kept = turn.local.durable(self.options.durability);
                self.log.durable_index(kept).min(received)
            }
        };
        let applied = self.commit.min(received);
        let synced = self.log.synced_index(synced).min(received);
        let (said, wants) = (self.follower.said, self.follower.wants);
        let is_wanted = (wants.received && received > said.received)
            || (wants.applied && applied > said.applied)
            || (wants.synced && synced > said.synced);
        if durable > said.durable || is_wanted || self.follower.owes_answer {
            self.follower.said = Matched { received, durable, applied, synced };
            self.follower.owes_answer = false;
            self.say(turn, leader, Body::Matched(self.follower.said));
        }
    }

    /// The leader is told once more how far this log is its own.
    pub(super) fn owe_answer(&mut self) {
        self.follower.owes_answer = true;
    }

    /// The position of the first record that is needed for entries above the commit index, and for
    /// a snapshot that is arriving.
    pub fn first_needed(&self) -> Option<Position> {
        let staged = self.staged_from();
        self.log.position_after(self.commit).into_iter().chain(staged).min()
    }

    /// Up to where the log of the leader that this node follows goes at least.
    pub fn known_of_leader(&self) -> u64 {
        self.follower.matched
    }

    /// Takes over a state that is the leader's up to an index, as matched in this epoch.
    pub(super) fn match_up_to(&mut self, index: u64) {
        self.follower.matched = self.follower.matched.max(index);
        self.follower.owes_answer = true;
    }
}

/// For a planted bug: what happens to an entry before it is applied.
fn plant(turn: &Turn<'_>, entry: &mut Entry<'_>) {
    if turn.local.mutants.is(Mutant::OwnDeadlines) {
        entry.move_deadlines(turn.now.wall_ms);
    }
}

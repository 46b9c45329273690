//! What a leader knows of each follower, and what a follower's word changes in that.

use super::message::{Matched, Wants};
use super::snapshot::Sending;
use super::{Group, Role};
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Incarnation, NodeId};
use alloc::collections::VecDeque;

/// Heartbeat intervals without progress after which a follower is sent the same again.
const QUIET_TICKS_MAX: u32 = 3;

/// Messages on their way to one follower before the leader waits for its word.
pub const APPENDS_IN_FLIGHT_MAX: usize = 128;

/// The appends on their way to a follower.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    appends: VecDeque<Sent>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
struct Sent {
    last: u64,
    bytes: usize,
    /// The newest heartbeat round before it. Whoever answers a later one has it, for all goes over
    /// one connection.
    round: u64,
}

impl InFlight {
    pub(super) fn push(&mut self, last: u64, bytes: usize, round: u64) {
        self.bytes += bytes;
        self.appends.push_back(Sent { last, bytes, round });
    }

    fn received(&mut self, index: u64) {
        while let Some(sent) = self.appends.pop_front_if(|sent| sent.last <= index) {
            self.bytes -= sent.bytes;
        }
    }

    /// Whether any of them must have arrived: a heartbeat round is answered that is later.
    fn has_arrived(&self, round: u64) -> bool {
        self.appends.front().is_some_and(|sent| sent.round < round)
    }

    fn forget_arrived(&mut self, round: u64) {
        while let Some(sent) = self.appends.pop_front_if(|sent| sent.round < round) {
            self.bytes -= sent.bytes;
        }
    }

    fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }

    /// Messages, their bytes counted anew, and those of the newest: for observers.
    pub(super) fn recount(&self) -> (usize, u64, u64) {
        let bytes = self.appends.iter().map(|sent| sent.bytes as u64);
        let newest = self.appends.back().map_or(0, |sent| sent.bytes as u64);
        (self.appends.len(), bytes.sum(), newest)
    }

    /// Whether more may be on its way. What is larger than the window goes alone.
    pub(super) fn has_room(&self, bytes_max: usize) -> bool {
        self.appends.len() < APPENDS_IN_FLIGHT_MAX && self.bytes < bytes_max
    }
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
    pub(super) told: (u64, Wants),
    /// The next entry to send.
    pub(super) next: u64,
    /// Where the logs agree is not known yet: one message at a time.
    pub(super) probing: bool,
    pub(super) probe_due: bool,
    /// Whether the next probe has entries: one that is asked again has none.
    pub(super) probe_carries: bool,
    /// The newest heartbeat round before the last probe that had entries.
    pub(super) carried_round: u64,
    pub(super) in_flight: InFlight,
    quiet_ticks: u32,
    /// The newest heartbeat round that it has confirmed.
    pub(super) confirmed_round: u64,
    /// Until when it votes for nobody, as it has promised: by the leader's clock, and counted so
    /// that it cannot be too late; 0 before its first word.
    pub(super) bound_until_us: u64,
    heard_us: u64,
    pub(super) snapshot: Option<Sending>,
    /// It has a snapshot and does not have yet what was committed meanwhile: the log stays, or it
    /// would need the next snapshot at once.
    pub(super) is_catching_up: bool,
}

impl Progress {
    pub(super) fn starting_at(next: u64, now_us: u64) -> Progress {
        let start = Progress { next, heard_us: now_us, ..Progress::default() };
        Progress { probing: true, probe_due: true, probe_carries: true, ..start }
    }

    /// The follower has started anew and does not know what it had matched; what it durably has
    /// still counts.
    fn probe_anew(&mut self, last: u64) {
        self.received = 0;
        self.applied = 0;
        self.told = (0, Wants::default());
        // Of an empty log nothing else can be matched. But a follower that does not come to read
        // what it was asked says the same at every heartbeat.
        self.probe_carries |= self.confirmed_round > self.carried_round;
        if !self.probing && self.snapshot.is_none() {
            // What is on its way may yet arrive: it counts until it must have.
            self.probing = true;
            self.probe_due = true;
            self.next = last + 1;
        }
    }

    fn rewind(&mut self) {
        if self.received > 0 {
            self.next = self.received + 1;
        }
        self.quiet_ticks = 0;
        self.probing = true;
        self.probe_carries = false;
    }

    /// The connection broke: what was on its way is lost, and nothing more is sent before the
    /// follower has answered where it is.
    fn on_lost(&mut self) {
        self.rewind();
        self.in_flight.clear();
        self.carried_round = 0;
        self.probe_due = true;
        if let Some(sending) = &mut self.snapshot {
            sending.on_lost();
        }
    }

    /// Bytes of the log, or of a snapshot, that are on their way.
    pub(super) fn bytes_on_way(&self) -> usize {
        self.in_flight.bytes + self.snapshot.as_ref().map_or(0, Sending::bytes_on_way)
    }

    /// Whether it could be sent more of a log up to `last`, as far as its own window goes.
    pub(super) fn lacks(&self, last: u64, bytes_max: usize) -> bool {
        self.next <= last && self.in_flight.has_room(bytes_max)
    }

    /// Whether the number of messages on their way lets it be sent more.
    pub(super) fn may_have_more(&self) -> bool {
        self.in_flight.appends.len() < APPENDS_IN_FLIGHT_MAX
    }

    /// A heartbeat interval has passed.
    pub(super) fn on_tick(&mut self) {
        self.probe_due = true;
        if let Some(sending) = &mut self.snapshot {
            sending.on_tick(self.confirmed_round);
        }
        // What was asked may have been lost on its way: it is asked again.
        self.told = (0, Wants::default());
        // What has not arrived yet is not lost: sent again, it would only gather in front of the
        // follower, and count as what it is: on its way.
        let round = self.confirmed_round;
        let owes_word = self.in_flight.has_arrived(round) || self.durable < self.received;
        self.quiet_ticks += u32::from(owes_word);
        if self.quiet_ticks > QUIET_TICKS_MAX {
            // What was sent is not taken, or the word about it lost: asks where the follower is.
            self.in_flight.forget_arrived(round);
            self.rewind();
        }
    }

    /// When the follower was last heard, in microseconds of the monotonic clock.
    pub(super) fn heard_us(&self) -> u64 {
        self.heard_us
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
    pub(super) fn give_up_snapshot(&mut self, last: u64) {
        self.is_catching_up = false;
        if self.snapshot.take().is_some() {
            self.probing = true;
            self.probe_due = true;
            self.next = last + 1;
            self.in_flight.clear();
        }
    }
}

impl Group {
    /// The connection to a follower broke: what was on its way may be lost.
    pub fn on_peer_lost(&mut self, node: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&node)
        {
            progress.on_lost();
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
        progress.in_flight.received(received);
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
            progress.probe_carries = true;
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
}

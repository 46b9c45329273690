//! Sends each follower what it lacks of the leader's log: once a turn, as runs that are slices of
//! the log, and as far as there is room in the window of the follower's node (`windows.rs`).

use super::message::{Body, Wants};
use super::{Group, Role};
use crate::NodeId;
use crate::mutant::Mutant;
use crate::turn::Turn;
use alloc::borrow::Cow;

/// Bytes of entries in a message that only asks where a follower's log agrees. There are such only
/// while the follower answers: what is asked again at every heartbeat gathers in front of it.
const PROBE_BYTES_MAX: usize = 16 << 10;

/// Bytes of entries in a message of a group that has waited for its turn, as a part of the window:
/// so many groups go on in one round trip.
const TURN_WINDOW_SHARE: usize = 32;

/// What a group has of a node's window.
#[derive(Debug, Default)]
pub(super) struct Share {
    bytes: usize,
    /// It is in the line of those that wait for room.
    waits: bool,
}

impl Share {
    /// What the group has taken of the window, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Group {
    /// Sends each follower what it lacks, as far as its window allows.
    pub(super) fn send_appends(&mut self, turn: &mut Turn<'_>) {
        self.settle_shares(turn);
        if turn.local.synced < self.epoch_position {
            return;
        }
        let wants = self.wants();
        for member in 0..self.members.len() {
            if let Some(node) = self.members.get(member).copied().filter(|n| *n != turn.local.me) {
                while self.send_append(turn, node, wants, false) {}
            }
        }
    }

    /// It is this group's turn to send to a node for whose window it has waited.
    pub fn send_in_turn(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if let Some(share) = self.share_of(node) {
            share.waits = false;
        }
        if !self.leads() || turn.local.synced < self.epoch_position {
            return;
        }
        let (wants, mut its_turn) = (self.wants(), true);
        while self.send_append(turn, node, wants, its_turn) {
            its_turn = false;
        }
    }

    /// Gives back what was acknowledged, or is lost.
    pub(super) fn settle_shares(&mut self, turn: &mut Turn<'_>) {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        for (node, share) in self.members.iter().zip(&mut self.shares) {
            if share.bytes > 0 {
                let progress = leader.and_then(|leader| leader.progress.get(node));
                let bytes = progress.map_or(0, |progress| progress.bytes_on_way());
                if !turn.local.mutants.is(Mutant::WindowNotGivenBack) {
                    turn.local.windows.change(*node, share.bytes, bytes);
                }
                share.bytes = bytes;
            }
        }
    }

    fn share_of(&mut self, node: NodeId) -> Option<&mut Share> {
        let member = self.members.iter().position(|member| *member == node)?;
        self.shares.get_mut(member)
    }

    /// So much more is on its way.
    pub(super) fn take_share(&mut self, turn: &mut Turn<'_>, node: NodeId, bytes: usize) {
        if let Some(share) = self.share_of(node) {
            turn.local.windows.change(node, share.bytes, share.bytes + bytes);
            share.bytes += bytes;
        }
    }

    fn window_bytes_max(&self, turn: &Turn<'_>) -> usize {
        match turn.local.mutants.is(Mutant::WindowIgnored) {
            true => usize::MAX,
            false => self.limits.window_bytes_max,
        }
    }

    /// Whether there is room for more.
    pub(super) fn is_open(&self, turn: &Turn<'_>, node: NodeId, its_turn: bool) -> bool {
        turn.local.windows.is_open(node, self.window_bytes_max(turn), its_turn)
    }

    /// Whether there is room for more; if not, this group gets its turn when there is.
    pub(super) fn finds_room(&mut self, turn: &mut Turn<'_>, node: NodeId, its_turn: bool) -> bool {
        if self.is_open(turn, node, its_turn) {
            return true;
        }
        let group = self.id;
        if let Some(share) = self.share_of(node)
            && !core::mem::replace(&mut share.waits, true)
        {
            turn.local.windows.wait(node, group);
        }
        false
    }

    /// Sends one message; whether there may be another.
    fn send_append(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        wants: Wants,
        its_turn: bool,
    ) -> bool {
        let window_bytes_max = self.window_bytes_max(turn);
        let (last, commit, history) =
            (self.log.last_index(), self.commit_to_tell(), self.history());
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.progress.get_mut(&node) else { return false };
        if progress.snapshot.is_some() {
            self.send_snapshot_piece(turn, node, its_turn);
            return false;
        }
        let due = match progress.probing {
            true => progress.probe_due,
            false => {
                let lacks = progress.lacks(last, window_bytes_max);
                lacks && self.finds_room(turn, node, its_turn)
            }
        };
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.progress.get_mut(&node) else { return false };
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
        let append_bytes_max = self.limits.append_bytes_max;
        let bytes_max = match (progress.probing, its_turn) {
            (true, _) => append_bytes_max.min(PROBE_BYTES_MAX),
            (_, true) => append_bytes_max.min(self.limits.window_bytes_max / TURN_WINDOW_SHARE),
            (_, false) => append_bytes_max,
        };
        let carries = due && (!progress.probing || core::mem::take(&mut progress.probe_carries));
        let run = if carries { self.log.run_after(previous.index, bytes_max) } else { None };
        let (entries, last_sent) = run.unwrap_or((&[], previous.index));
        let goes_on = due && !progress.probing;
        let bytes = entries.len();
        if progress.probing && bytes > 0 {
            progress.carried_round = turn.local.rounds.newest();
        }
        if goes_on {
            progress.next = last_sent + 1;
            progress.in_flight.push(last_sent, bytes, turn.local.rounds.newest());
        }
        let entries = Cow::Borrowed(entries);
        let body = Body::Append { previous, commit, wants, entries, history };
        turn.send(node, self.message(body));
        if goes_on {
            self.take_share(turn, node, bytes);
        }
        goes_on
    }
}

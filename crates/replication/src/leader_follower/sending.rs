//! Sends each follower what it lacks of the leader's log: once a turn, as runs that are slices of
//! the log.

use super::message::{Body, Wants};
use super::{Group, Role};
use crate::NodeId;
use crate::turn::Turn;
use alloc::borrow::Cow;

/// Bytes of entries in a message that only asks where a follower's log agrees. One that does not
/// answer gets it at every heartbeat, and it gathers in front of the follower.
const PROBE_BYTES_MAX: usize = 16 << 10;

impl Group {
    /// Sends each follower what it lacks, as far as its window allows.
    pub(super) fn send_appends(&mut self, turn: &mut Turn<'_>) {
        if turn.local.synced < self.epoch_position {
            return;
        }
        let wants = self.wants();
        for member in 0..self.members.len() {
            if let Some(node) = self.members.get(member).copied().filter(|n| *n != turn.local.me) {
                while self.send_append(turn, node, wants) {}
            }
        }
    }

    /// Sends one message; whether there may be another.
    fn send_append(&mut self, turn: &mut Turn<'_>, node: NodeId, wants: Wants) -> bool {
        let (last, commit, history) =
            (self.log.last_index(), self.commit_to_tell(), self.history());
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.progress.get_mut(&node) else { return false };
        if progress.snapshot.is_some() {
            self.send_snapshot_piece(turn, node);
            return false;
        }
        let due = match progress.probing {
            true => progress.probe_due,
            false => {
                let window_bytes_max = self.limits.window_bytes_max;
                progress.next <= last && progress.in_flight.has_room(window_bytes_max)
            }
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
        let run = if due { self.log.run_after(previous.index, bytes_max) } else { None };
        let (entries, last_sent) = run.unwrap_or((&[], previous.index));
        let goes_on = due && !progress.probing;
        if goes_on {
            progress.next = last_sent + 1;
            progress.in_flight.push(last_sent, entries.len());
        }
        let entries = Cow::Borrowed(entries);
        let body = Body::Append { previous, commit, wants, entries, history };
        turn.send(node, self.message(body));
        goes_on
    }
}

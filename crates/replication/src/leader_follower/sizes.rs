//! What the queues of a group hold, counted anew from what is in them. For observers who look
//! whether bounds are kept: a counter that drifts must not be what says that it does not.

use super::replication_log::run::{Bodies, LENGTH_BYTES};
use super::{Group, Role};
use crate::NodeId;
use crate::leader_follower::entry::Entry;
use crate::turn::Local;
use alloc::vec::Vec;

/// How much there is of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Size {
    /// Counted anew.
    pub found: u64,
    /// As it is counted while it grows and shrinks.
    pub kept: u64,
}

/// What is on its way to a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnWay {
    /// The follower.
    pub node: NodeId,
    /// Messages with entries.
    pub appends: usize,
    /// Bytes of these and of pieces of a snapshot; what is kept is what the group has taken of the
    /// node's window.
    pub bytes: Size,
    /// Bytes of the newest message of either kind, whichever has more.
    pub newest_bytes: u64,
    /// Whether there are entries for it that are not on their way, and nothing but a window keeps
    /// them.
    pub lacks: bool,
    /// Whether that is the node's window, and not the group's own.
    pub is_held_up: bool,
}

/// What a leader appended for clients and is not committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Uncommitted {
    /// Entries.
    pub entries: u64,
    /// Their bytes, each with its length.
    pub bytes: u64,
    /// Those of the newest.
    pub newest_bytes: u64,
}

/// Replies that wait at a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeldReplies {
    /// To writes that wait for their keyspace's acks.
    pub writes: usize,
    /// To writes that wait for something else.
    pub special: usize,
    /// To WAITs.
    pub waits: usize,
    /// Bytes of what reads of earlier turns answer.
    pub read_bytes: Size,
}

/// What a group keeps for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Bytes of the log in memory, each entry with its length.
    pub log: Size,
    /// Bytes of its oldest entry.
    pub oldest_bytes: u64,
    /// Bytes of the entries above the commit index.
    pub tail_bytes: u64,
    /// Sessions of `TF.ONCE`, the bytes of all of them by estimate, and of the largest.
    pub sessions: usize,
    /// See there.
    pub once: Size,
    /// See there.
    pub largest_session: u64,
    /// The latest start of a session that was forgotten.
    pub horizon_ms: u64,
    /// Whether some slots contain more than the others: then what is remembered is not of one time.
    pub is_ahead: bool,
    /// Bytes of the lost-write report.
    pub lost: Size,
    /// Intervals of the degrade ledger.
    pub degraded: usize,
    /// Leaderships that are remembered, by which outcomes are told.
    pub reigns: usize,
}

impl Group {
    /// What is on its way to each follower.
    pub(crate) fn on_way(&self, local: &Local) -> Vec<OnWay> {
        let (last, limits) = (self.log.last_index(), &self.limits);
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        let may_send = leader.is_some() && local.synced >= self.epoch_position;
        let members = self.members.iter().zip(&self.shares);
        let of_member = |(node, share): (&NodeId, &super::sending::Share)| {
            let progress = leader.and_then(|leader| leader.progress.get(node));
            let (appends, appended, newest) =
                progress.map_or((0, 0, 0), |progress| progress.in_flight.recount());
            let snapshot = progress.and_then(|progress| progress.snapshot.as_ref());
            let pieces = snapshot.map_or(0, |sending| sending.bytes_on_way() as u64);
            let newest_piece = snapshot.map_or(0, |sending| sending.newest_bytes() as u64);
            let has_room = appended < limits.window_bytes_max as u64;
            let lacks = may_send
                && progress.is_some_and(|progress| {
                    !progress.probing && progress.snapshot.is_none() && progress.next <= last
                });
            let may_have_more = progress.is_some_and(|progress| progress.may_have_more());
            OnWay {
                node: *node,
                appends,
                bytes: Size { found: appended + pieces, kept: share.bytes() as u64 },
                newest_bytes: newest.max(newest_piece),
                lacks,
                is_held_up: lacks && may_have_more && has_room,
            }
        };
        members.map(of_member).collect()
    }

    /// At a leader: what it has appended for clients in its epoch, and is not committed.
    pub fn uncommitted(&self) -> Uncommitted {
        let mut uncommitted = Uncommitted::default();
        if !self.leads() {
            return uncommitted;
        }
        for index in self.commit + 1..=self.log.last_index() {
            let Some(body) = self.log.get(index) else { continue };
            let is_clients = Entry::decode(body)
                .is_ok_and(|entry| entry.id.epoch == self.epoch && entry.asker.is_some());
            if is_clients {
                uncommitted.newest_bytes = (body.len() + LENGTH_BYTES) as u64;
                uncommitted.bytes += uncommitted.newest_bytes;
                uncommitted.entries += 1;
            }
        }
        uncommitted
    }

    /// The replies that wait here.
    pub fn held_replies(&self) -> HeldReplies {
        let Role::Leader(leader) = &self.role else { return HeldReplies::default() };
        let (writes, special, waits) = leader.held.counts();
        let (found, kept) = leader.held.recount_reads();
        HeldReplies { writes, special, waits, read_bytes: Size { found, kept } }
    }

    /// Whether a follower or another datacenter needs the log after a snapshot.
    pub fn waits_for_snapshots(&self) -> bool {
        self.needed_after_snapshots() != u64::MAX
    }

    /// What the group keeps for long: all of it is looked at.
    pub fn kept(&self) -> Kept {
        let mut log = Size { found: 0, kept: self.log.bytes() };
        let (mut oldest_bytes, mut tail_bytes) = (0, 0);
        let mut index = self.log.start().index;
        while let Some((run, last)) = self.log.run_after(index, usize::MAX) {
            for body in Bodies::of(run).flatten() {
                index += 1;
                let bytes = (body.len() + LENGTH_BYTES) as u64;
                oldest_bytes = if log.found == 0 { bytes } else { oldest_bytes };
                tail_bytes += if index > self.commit { bytes } else { 0 };
                log.found += bytes;
            }
            index = last;
        }
        let (lost_found, lost_kept) = self.lost_writes.recount();
        let sessions = || self.state.once.recount().map(|bytes| bytes as u64);
        Kept {
            log,
            oldest_bytes,
            tail_bytes,
            sessions: sessions().count(),
            once: Size { found: sessions().sum(), kept: self.state.once.bytes() as u64 },
            largest_session: sessions().max().unwrap_or(0),
            horizon_ms: self.state.once.horizon_ms(),
            is_ahead: self.state.ahead_of(self.commit).is_some(),
            lost: Size { found: lost_found, kept: lost_kept },
            degraded: self.degraded.intervals().count(),
            reigns: self.epochs.first_indexes().count(),
        }
    }
}

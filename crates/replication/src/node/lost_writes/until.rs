//! When what a node has done about a lost write is done: when it is on its own disk, or, where the
//! group itself forgets by an entry of its log, when that is committed. Before, the next leader
//! could lack the entry, and tell again of what a client was told is forgotten.

use super::{QUERIES_MAX, Query};
use crate::node::Roles;
use crate::node::message::Message;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{GroupId, Message as AnyMessage, NodeId, Position, Session};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// From when on it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// The node's log is synced up to here.
    Synced(Position),
    /// The group's log is committed up to this entry.
    Committed(GroupId, EntryId),
}

/// An answer that another node gets when an entry is committed, if it still waits then.
pub(super) struct OwedAnswer {
    until: Until,
    to: NodeId,
    session: Session,
    token: u64,
    answer: Vec<u8>,
    deadline_us: u64,
}

impl Query {
    /// Whether what this node itself has done is done with an entry's commit.
    pub(super) fn waits_for_commit(&self) -> bool {
        matches!(self.until, Until::Committed(..))
    }

    /// It is not known whether what this node has done will last.
    pub(super) fn give_commit_up(&mut self, me: NodeId) {
        if self.waits_for_commit() {
            self.until = Until::Synced(Position(0));
            self.silent.insert(me);
            self.answer.done = false;
        }
    }
}

impl Roles {
    pub(super) fn is_reached(&self, turn: &Turn<'_>, until: Until) -> bool {
        match until {
            Until::Synced(position) => position <= turn.local.synced,
            Until::Committed(group, entry) => {
                self.groups.get(&group).is_some_and(|group| group.has_committed(entry))
            }
        }
    }

    /// Another node's question is answered when an entry is committed. Who is not answered knows
    /// that he does not know.
    pub(super) fn owe_answer(
        &mut self,
        turn: &Turn<'_>,
        until: Until,
        (to, session, token): (NodeId, Session, u64),
        answer: Vec<u8>,
    ) {
        if self.lost_queries.owed.len() < QUERIES_MAX {
            let deadline_us = turn.now.monotonic_us.saturating_add(self.timing.forward_timeout_us);
            let owed = OwedAnswer { until, to, session, token, answer, deadline_us };
            self.lost_queries.owed.push(owed);
        }
    }

    /// Lets the answers go whose entries are committed, and forgets those that come too late.
    pub(super) fn let_owed_go(&mut self, turn: &mut Turn<'_>) {
        let owed = core::mem::take(&mut self.lost_queries.owed);
        for owed in owed {
            if self.is_reached(turn, owed.until) {
                let (token, answer) = (owed.token, Cow::Owned(owed.answer));
                let message = Message::TellLost { to: owed.session, token, answer };
                turn.send(owed.to, AnyMessage::Node(message));
            } else if owed.deadline_us > turn.now.monotonic_us {
                self.lost_queries.owed.push(owed);
            }
        }
    }
}

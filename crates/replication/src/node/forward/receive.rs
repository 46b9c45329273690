//! A forwarded command at its receiver: executed at most once, or refused for good.

use crate::command::{self, Action};
use crate::keyspace::slot::slot_of;
use crate::leader_follower::lost_writes::report::{LostWrite, What};
use crate::node::Roles;
use crate::node::message::{Message, decode_arguments};
use crate::node::part::{PART, Part};
use crate::node::requests::Work;
use crate::turn::{Asker, Requester, Turn};
use crate::wire::Reader;
use crate::{Arguments, GroupId, Message as AnyMessage, NodeId, Session, Span};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a forwarded command says about itself.
#[derive(Clone)]
pub(in crate::node) struct Forwarded {
    pub node: NodeId,
    pub session: Session,
    pub sequence: u64,
    pub attempt: u64,
    pub token: u64,
    pub group: GroupId,
    pub asker: Option<Asker>,
}

impl Roles {
    /// A command that another node has forwarded to this one.
    pub(in crate::node) fn on_forward(
        &mut self,
        turn: &mut Turn<'_>,
        forwarded: Forwarded,
        command: &[u8],
    ) {
        let Forwarded { node: from, session, sequence, attempt, token, group, asker } = forwarded;
        let seen = self.forwards.seen.entry((from, session.incarnation)).or_default();
        if (session.boot, sequence) <= *seen {
            return;
        }
        *seen = (session.boot, sequence);
        let refused = self.forwards.refused.get(&(from, group));
        let refused = refused.filter(|(of, _)| *of == session).map(|(_, attempt)| *attempt);
        let requester = Requester::Peer { node: from, session, token };
        turn.local.asker = asker;
        let done = refused.is_none_or(|refused| attempt > refused)
            && with_work(command, |work| {
                self.is_of(group, work) && self.try_here(turn, requester, group, work)
            })
            .unwrap_or(false);
        if !done {
            self.forwards.refused.insert((from, group), (session, attempt));
            let leader = self
                .leader_of(turn, group)
                .map(|node| (node, self.leaders.get(&group).map_or(0, |(_, epoch)| *epoch)));
            let message = Message::NotHere { to: session, token, group, attempt, leader };
            turn.send(from, AnyMessage::Node(message));
        }
    }

    /// Whether a forwarded command's keys are the group's: a peer's word is not enough.
    fn is_of(&self, group: GroupId, work: &Work<'_>) -> bool {
        let holds = |key: &[u8]| {
            self.cluster.keyspace_of(key).is_some_and(|keyspace| {
                keyspace.id == group.keyspace
                    && keyspace.partition_of(slot_of(key)) == group.partition
            })
        };
        match work {
            Work::Key(command, _) => holds(command.key),
            Work::Once(_, work) => self.is_of(group, work),
            Work::SetMany(pairs, _) => pairs.iter().step_by(2).all(holds),
            Work::Part(Part::Scan { slot, .. }) => {
                let keyspace = self.cluster.keyspace(group.keyspace);
                keyspace.is_some_and(|keyspace| {
                    let (first, last) = keyspace.slots_of(group.partition);
                    (first..=last).contains(slot)
                })
            }
            Work::Part(Part::Replay(report)) => match LostWrite::decode(&mut Reader(report)) {
                Ok(LostWrite { what: What::Changes(changes), .. }) => {
                    changes.iter().all(|change| holds(&change.key))
                }
                _ => false,
            },
            Work::Part(_) => true,
        }
    }
}

/// Reads an encoded command and gives it to `act`; `None` if it makes no sense.
pub(super) fn with_work<T>(encoded: &[u8], act: impl FnOnce(&Work<'_>) -> T) -> Option<T> {
    let spans: Vec<Span> = decode_arguments(encoded).ok()?;
    let arguments = Arguments::new(encoded, &spans);
    if arguments.get(0) == Some(PART) {
        let part = Part::decode(arguments.get(1)?).ok()?;
        return Some(act(&Work::Part(part)));
    }
    let command = command::parse(arguments).ok()?;
    match command.action {
        Action::Key(key_command) => Some(act(&Work::Key(key_command, command.with))),
        Action::SetMany { pairs } => Some(act(&Work::SetMany(pairs, command.with))),
        Action::Once { id, command } => {
            let work = match command.action {
                Action::Key(key_command) => Work::Key(key_command, command.with),
                Action::SetMany { pairs } => Work::SetMany(pairs, command.with),
                _ => return None,
            };
            Some(act(&Work::Once(id, Box::new(work))))
        }
        _ => None,
    }
}

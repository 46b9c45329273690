//! A forwarded command at its receiver: executed at most once, or refused for good.

use super::batch::{self, AskedBy, Command};
use crate::command::verb::{EachVerb, With};
use crate::command::{self, Action};
use crate::leader_follower::lost_writes::report::{LostWrite, What};
use crate::mutant::Mutant;
use crate::node::message::{Message, decode_arguments};
use crate::node::part::{PART, Part};
use crate::node::requests::Work;
use crate::node::{HELD_READ_BYTES_MAX, Roles};
use crate::turn::{Asker, Requester, Turn};
use crate::wire::Reader;
use crate::{Arguments, ClientId, GroupId, Message as AnyMessage, NodeId, Session, Span};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names of other nodes' clients that are remembered, so that a client is not named anew with each
/// of its commands.
const LABELS_MAX: usize = 256;

/// Names of other nodes' clients that were heard lately, each at a place of its own.
#[derive(Default)]
pub(super) struct Labels(Vec<Option<Label>>);

/// A client of a node, and its name.
type Label = (NodeId, ClientId, Arc<[u8]>);

impl Labels {
    /// The asker of a command, borrowing nothing.
    fn own(&mut self, by: AskedBy<'_>) -> Asker {
        let AskedBy { node, process, client, sequence, label } = by;
        if self.0.is_empty() {
            self.0.resize(LABELS_MAX, None);
        }
        let place = (client.0 ^ client.0 >> 20).wrapping_add(u64::from(node.0).wrapping_mul(37));
        let known = &mut self.0[place as usize % LABELS_MAX];
        match known {
            Some((n, c, known)) if (*n, *c) == (node, client) && **known == *label => {
                Asker { node, process, client, sequence, label: known.clone() }
            }
            _ => {
                let label: Arc<[u8]> = Arc::from(label);
                *known = Some((node, client, label.clone()));
                Asker { node, process, client, sequence, label }
            }
        }
    }
}

impl Roles {
    /// Commands that another node has forwarded to this one.
    pub(in crate::node) fn on_forward(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        session: Session,
        sequence: u64,
        commands: &[u8],
    ) {
        if !self.forwards.seen.is_new(from, session, sequence) {
            return;
        }
        // What is malformed has not come: its sender will have no answer to it.
        for command in batch::commands(commands).flatten() {
            self.on_command(turn, from, session, &command);
        }
    }

    fn on_command(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        session: Session,
        command: &Command<'_>,
    ) {
        let Command { attempt, token, group, epoch, asker, words } = *command;
        let refused = self.forwards.refused.get(&(from, group));
        let refused = refused.filter(|(of, _)| *of == session).map(|(_, attempt)| *attempt);
        let requester = Requester::Peer { node: from, session, token };
        self.asked_elsewhere(turn, asker);
        let mut spans = core::mem::take(&mut self.forwards.spans);
        let done = refused.is_none_or(|refused| attempt > refused)
            && with_work(words, &mut spans, |work| {
                self.has_room_for(group, work)
                    && self.is_of(group, work)
                    && (turn.local.mutants.is(Mutant::ForwardUnbound)
                        || self.is_bound_here(group, epoch, work))
                    && self.try_here(turn, requester, group, work)
            })
            .unwrap_or(false);
        self.forwards.spans = spans;
        if !done {
            // Of a group that there is not, nothing is ever carried out.
            if self.placement.contains_key(&group) {
                self.forwards.refused.insert((from, group), (session, attempt));
            }
            let leader = self.leader_of(turn, group);
            let leader = leader.map(|node| (node, self.led_by(group, node).epoch));
            let message = Message::NotHere { to: session, token, leader };
            turn.send(from, AnyMessage::Node(message));
        }
    }

    /// A client of another node asks; mostly the same as before.
    fn asked_elsewhere(&mut self, turn: &mut Turn<'_>, by: Option<AskedBy<'_>>) {
        match (&mut turn.local.asker, by) {
            (Some(asker), Some(by))
                if (asker.node, asker.process) == (by.node, by.process)
                    && asker.client == by.client
                    && *asker.label == *by.label =>
            {
                asker.sequence = by.sequence;
            }
            (asker, by) => *asker = by.map(|by| self.forwards.labels.own(by)),
        }
    }

    /// Whether a read may be evaluated now: what it would answer waits here for the turn's end. If
    /// not, its forwarder sends it again a little later.
    fn has_room_for(&self, group: GroupId, work: &Work<'_>) -> bool {
        work.is_write()
            || self
                .groups
                .get(&group)
                .is_none_or(|group| group.held_read_bytes() < HELD_READ_BYTES_MAX)
    }

    /// Whether a forwarded write is for the leader that this node is, if there is one: bound to an
    /// epoch, it is never carried out in another one, however late it comes, and a node that was
    /// elected again is another leader. What its client asks about it later rests on that.
    fn is_bound_here(&self, group: GroupId, epoch: u64, work: &Work<'_>) -> bool {
        let led = self.groups.get(&group).is_none_or(|group| group.epoch() == epoch);
        led || !work.is_write()
    }

    /// Whether a forwarded command's keys are the group's: a peer's word is not enough.
    fn is_of(&self, group: GroupId, work: &Work<'_>) -> bool {
        let holds = |key: &[u8]| {
            self.routes.of(key).is_some_and(|route| {
                (route.group.keyspace, route.group.partition) == (group.keyspace, group.partition)
            })
        };
        match work {
            Work::Key(command, _) => holds(command.key),
            Work::Once(_, work) => self.is_of(group, work),
            Work::SetMany(pairs, _) => pairs.iter().step_by(2).all(holds),
            Work::DeleteMany(keys, _) => keys.iter().all(holds),
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

/// Reads an encoded command and gives it to `act`; `None` if it makes no sense. `spans` is where
/// its arguments are noted.
pub(super) fn with_work<T>(
    encoded: &[u8],
    spans: &mut Vec<Span>,
    act: impl FnOnce(&Work<'_>) -> T,
) -> Option<T> {
    decode_arguments(encoded, spans).ok()?;
    let arguments = Arguments::new(encoded, spans);
    if let Some(command) = command::plain(arguments) {
        return Some(act(&Work::Key(command, With::default())));
    }
    if arguments.get(0) == Some(PART) {
        let part = Part::decode(arguments.get(1)?).ok()?;
        return Some(act(&Work::Part(part)));
    }
    let command = command::parse(arguments).ok()?;
    match command.action {
        Action::Key(key_command) => Some(act(&Work::Key(key_command, command.with))),
        Action::SetMany { pairs } => Some(act(&Work::SetMany(pairs, command.with))),
        Action::Each { verb: EachVerb::Delete, keys } => {
            Some(act(&Work::DeleteMany(keys, command.with)))
        }
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

//! Who counts: the voters of a group, each with the disk that he was admitted with.
//!
//! A new incarnation (a new, wiped or replaced disk) counts for no ack, commit or vote until an
//! entry that names it is committed by C of the *other* voters. The first voters are written at
//! creation: a group starts when all N nodes have told each other that they never had it, and
//! each has durably written the set. A node with an empty disk that meets a peer whose set names
//! another incarnation of it is new: a learner.
//!
//! The set is written down with the entry that made it: what is committed up to there is in it.
//! After a restart, a node reads and commits entries again that it had committed before, and counts
//! by the newest set that it ever knew, not by those in between.
//!
//! Where fewer than E known disks are left, only an operator can go on (`operator.rs`). The voters
//! that he names stand in the entry that opens his leader's epoch. Nobody counts by them before:
//! they hold for that leader from the beginning, and for another member from when its own log has
//! the entry on disk; others are told of them once it is committed. So whoever elects by them has
//! the history that they belong to, and a word that comes to nothing leaves nothing behind.
//!
//! Left out: a disk wiped in the very middle of a group's creation leaves the group
//! uncreated until the others are wiped, too.

use super::Group;
use super::entry::{Entry, Payload};
use super::log_record;
use super::message::{Body, VoterSet};
use crate::keyspace::Durability;
use crate::mutant::Mutant;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Event, Incarnation, NodeId, Position};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};

/// Members, each with the disk that counts.
pub(super) type Disks = BTreeMap<NodeId, Incarnation>;

/// What a node knows about a group's voters.
#[derive(Debug, Default)]
pub struct Voters {
    /// The voters, once known; empty before.
    set: Disks,
    /// The committed entry that made this the set; none for the first voters.
    as_of: EntryId,
    /// Whether all of them are known to have written the first set down.
    born: bool,
    /// From when on the node's log holds the set.
    position: Position,
    /// The voters by an operator's word that is in the log and not known to be committed, and the
    /// index of its entry.
    named: Option<(u64, Disks)>,
    /// Who has told this disk that he never had the group.
    unborn: Disks,
    /// Who has told this disk that he has written the same set down.
    prepared: BTreeSet<NodeId>,
}

impl Voters {
    /// Whether the member counts with this disk.
    pub fn counts(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.in_force().is_some_and(|set| set.get(&node) == Some(&incarnation))
    }

    /// The voters that count in elections and for copies; `None` before the group is known to
    /// have started.
    pub(super) fn in_force(&self) -> Option<&Disks> {
        let named = self.named.as_ref().map(|(_, named)| named);
        named.or(self.born.then_some(&self.set))
    }

    /// Whether the first voters have all written the set down.
    pub fn is_born(&self) -> bool {
        self.born
    }

    /// The voters in order, without those that an operator has named and nobody has committed.
    pub fn list(&self) -> VoterSet {
        self.set.iter().map(|(node, incarnation)| (*node, *incarnation)).collect()
    }

    /// The committed entry that made them the voters; none for the first ones.
    pub fn as_of(&self) -> EntryId {
        self.as_of
    }

    /// Takes the voters over from the log, or from a snapshot.
    pub fn restore(&mut self, voters: &VoterSet, born: bool, as_of: EntryId) {
        self.set = voters.iter().copied().collect();
        self.born = born;
        self.as_of = as_of;
    }

    /// Whether a committed entry says nothing new about the voters: a later one has made the set.
    fn knows(&self, id: EntryId) -> bool {
        id <= self.as_of
    }

    /// An entry is committed from which on this disk of a member counts.
    pub fn admit(&mut self, id: EntryId, node: NodeId, incarnation: Incarnation) {
        if !self.set.is_empty() && !self.knows(id) {
            self.set.insert(node, incarnation);
            self.as_of = id;
        }
    }

    /// An entry is committed from which on these are the voters, if it names any.
    pub fn replace(&mut self, id: EntryId, voters: &VoterSet) {
        if !voters.is_empty() && !self.knows(id) {
            self.restore(voters, true, id);
        }
    }

    /// The log ends with `last` now. Only a leader that lacks committed entries makes a follower
    /// cut them: what it commits in their place is news to the set.
    pub fn cut(&mut self, last: EntryId) {
        self.as_of = self.as_of.min(last);
    }
}

impl Group {
    /// Whether this node may vote and lead.
    pub fn is_voter(&self, turn: &Turn<'_>) -> bool {
        let kept = match self.voters.named {
            Some((index, _)) => self.log.position_after(index - 1),
            None => Some(self.voters.position),
        };
        self.counts(turn, turn.local.me, turn.local.incarnation)
            && kept.is_some_and(|position| turn.local.synced >= position)
    }

    /// The log has another end, or is known to be committed further: whom does it name by an
    /// operator's word? Not by one that was committed before this process: then the set is as new,
    /// or newer, whatever is known to be committed now.
    pub(super) fn find_named_voters(&mut self) {
        let in_entry = |index: u64| {
            let entry = Entry::decode(self.log.get(index)?).ok()?;
            match entry.payload {
                Payload::OpeningAfterLoss(_, voters)
                    if !voters.is_empty() && !self.voters.knows(entry.id) =>
                {
                    Some((index, voters.into_iter().collect()))
                }
                _ => None,
            }
        };
        self.voters.named = self.epochs.losses_after(self.commit).find_map(in_entry);
    }

    /// Whether what a member says with this disk counts.
    pub fn counts(&self, turn: &Turn<'_>, node: NodeId, incarnation: Incarnation) -> bool {
        self.voters.counts(node, incarnation)
            || (turn.local.mutants.is(Mutant::WipedNodeCounts) && self.voters.is_born())
    }

    /// An entry that admits a member's new disk is committed.
    pub(super) fn on_voter_committed(
        &mut self,
        turn: &mut Turn<'_>,
        id: EntryId,
        node: NodeId,
        incarnation: Incarnation,
    ) {
        if self.voters.knows(id) {
            return;
        }
        self.tell_for_replaced(turn, node, incarnation);
        let is_new = !self.voters.counts(node, incarnation);
        self.voters.admit(id, node, incarnation);
        self.forget_bonds();
        self.remember_voters(turn);
        if is_new {
            turn.event(Event::VoterAdmitted { group: self.id, node, incarnation });
        }
    }

    /// The voters are others by a committed entry: after a restart, nobody may be left who could
    /// tell that it is committed.
    fn remember_voters(&mut self, turn: &mut Turn<'_>) {
        if self.voters.born {
            let (voters, as_of) = (self.voters.list(), self.voters.as_of);
            let body = log_record::Body::Voters { voters, born: true, as_of };
            self.log_record(turn, body, Durability::Fsync);
        }
    }

    /// An operator's word about who the voters are is committed.
    pub(super) fn on_voters_replaced(
        &mut self,
        turn: &mut Turn<'_>,
        id: EntryId,
        voters: &VoterSet,
    ) {
        self.voters.named.take_if(|(named_at, _)| *named_at <= id.index);
        if !voters.is_empty() && !self.voters.knows(id) {
            self.voters.replace(id, voters);
            self.remember_voters(turn);
        }
    }

    /// Asks for the voters while they are not known, and starts the group where nobody else is
    /// needed for it.
    pub(super) fn seek_voters(&mut self, turn: &mut Turn<'_>) {
        if self.voters.born {
            // Without a leader, only the others can tell that this disk was admitted before the
            // last one went; and without this node's vote there may never be a leader again.
            if self.leader.is_none() && !self.is_voter(turn) {
                self.broadcast(turn, &Body::AskVoters);
            }
            return;
        }
        self.broadcast(turn, &Body::AskVoters);
        self.prepare_voters(turn);
        self.finish_birth(turn);
    }

    pub(super) fn on_ask_voters(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
    ) {
        if self.voters.set.is_empty() {
            // Who leads by an operator's word has the group.
            if self.voters.named.is_none() {
                self.say(turn, from, Body::Unborn { to: incarnation });
            }
            return;
        }
        let (voters, born) = (self.voters.list(), self.voters.born);
        let body = Body::Voters { to: incarnation, voters, born };
        let message = self.message(body);
        turn.send_when_durable(self.voters.position, Durability::Fsync, from, message);
    }

    pub(super) fn on_unborn(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        to: Incarnation,
    ) {
        if to == turn.local.incarnation && self.voters.set.is_empty() {
            self.voters.unborn.insert(from, incarnation);
            self.prepare_voters(turn);
        }
    }

    pub(super) fn on_voters(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        to: Incarnation,
        told: &VoterSet,
        born: bool,
    ) {
        if to != turn.local.incarnation {
            return;
        }
        let set: Disks = told.iter().copied().collect();
        if self.voters.born {
            return self.learn_admission(turn, &set, born);
        }
        if self.voters.set.is_empty() && born && set.get(&turn.local.me) != Some(&to) {
            turn.event(Event::Alarm(Cow::Borrowed(
                "this disk is new to a group that others have known: it counts there once a \
                 leader of the other voters has admitted it",
            )));
        }
        if self.voters.set.is_empty() && (born || set.get(&turn.local.me) == Some(&to)) {
            self.write_voters(turn, set.clone(), born);
        }
        if self.voters.set != set {
            return;
        }
        self.voters.prepared.insert(from);
        if born && !self.voters.born {
            self.write_voters(turn, set, true);
        }
        self.finish_birth(turn);
    }

    /// A member knows this disk as a voter: the entry that admits it is committed, although this
    /// node has not heard so from a leader. Of the other members' disks nothing is learnt here.
    fn learn_admission(&mut self, turn: &mut Turn<'_>, told: &Disks, born: bool) {
        let me = turn.local.me;
        let mine = Some(&turn.local.incarnation);
        if born && told.get(&me) == mine && self.voters.set.get(&me) != mine {
            let mut set = self.voters.set.clone();
            set.insert(me, turn.local.incarnation);
            self.write_voters(turn, set, true);
        }
    }

    /// All others never had the group: they and this node are its first voters.
    fn prepare_voters(&mut self, turn: &mut Turn<'_>) {
        let others = self.members.len() - 1;
        if !self.voters.set.is_empty() || self.voters.unborn.len() < others {
            return;
        }
        let mut set = core::mem::take(&mut self.voters.unborn);
        set.insert(turn.local.me, turn.local.incarnation);
        self.write_voters(turn, set, false);
    }

    /// All others have written the same set down: the group can start.
    pub(super) fn finish_birth(&mut self, turn: &mut Turn<'_>) {
        let prepared = !self.voters.set.is_empty()
            && self.voters.prepared.len() == self.members.len() - 1
            && turn.local.synced >= self.voters.position;
        if prepared && !self.voters.born {
            let set = self.voters.set.clone();
            self.write_voters(turn, set, true);
        }
    }

    fn write_voters(&mut self, turn: &mut Turn<'_>, set: Disks, born: bool) {
        self.voters.set = set;
        self.voters.born = born;
        let (voters, as_of) = (self.voters.list(), self.voters.as_of);
        let body = log_record::Body::Voters { voters, born, as_of };
        self.voters.position = self.log_record(turn, body, Durability::Fsync);
        if born {
            self.reset_election_timer(turn);
        }
    }
}

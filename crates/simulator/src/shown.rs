//! Which written values clients are shown, and how many replicas have them at that moment: taken
//! note of where an answer is let go, before it is on its way to anybody.

use crate::observe::{Observations, tokens};
use replication::version::EntryId;
use replication::{GroupId, NodeId, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// A client's command: its connection, and its number there.
pub type Name = (u64, u64);

/// An answer that shows a written value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// The command.
    pub request: Name,
    /// When it was let go.
    pub at_us: u64,
    /// Who answered, for himself or for the node that the client asked.
    pub node: NodeId,
    /// The newest value in the answer.
    pub value: String,
    /// Of each group in whose log the value is: how many replicas durably had its entry then. Of
    /// several entries the most.
    pub copies: BTreeMap<GroupId, usize>,
    /// The groups that the node led at some time of that turn.
    pub led: BTreeSet<GroupId>,
}

/// Answers of the turn that is being played, each with the newest value that it shows.
pub type Showing = Vec<(Name, String)>;

impl Observations {
    /// An answer is let go in this turn.
    pub fn showing(&mut self, request: Name, reply: &Reply<'_>) {
        if let Reply::Bulk(value) = reply
            && let Some(value) = tokens(value).pop()
        {
            self.showing.push((request, value));
        }
    }

    /// A value is in an entry of a group's log.
    pub fn value_in_entry(&mut self, value: &[u8], group: GroupId, id: EntryId) {
        if let Some(token) = tokens(value).pop() {
            self.origins.entry(token).or_default().insert((group, id));
        }
    }

    /// The turn is over, and all that its node's disk has kept is known.
    pub fn note_shown(&mut self, at_us: u64, node: NodeId, led: &BTreeSet<GroupId>) {
        for (request, value) in std::mem::take(&mut self.showing) {
            let mut copies: BTreeMap<GroupId, usize> = BTreeMap::new();
            for (group, id) in self.origins.get(&value).into_iter().flatten() {
                let most = copies.entry(*group).or_default();
                *most = self.copies.of(*group, *id).durable.max(*most);
            }
            let led = led.clone();
            self.shown.push(Shown { request, at_us, node, value, copies, led });
        }
    }

    /// Commands that somebody has answered who led none of these groups.
    pub fn shown_by_followers(&self, is_of_key: impl Fn(&GroupId) -> bool) -> BTreeSet<Name> {
        let leads = |shown: &Shown| shown.led.iter().any(&is_of_key);
        let by_leaders: BTreeSet<Name> =
            self.shown.iter().filter(|shown| leads(shown)).map(|shown| shown.request).collect();
        let names = self.shown.iter().map(|shown| shown.request);
        names.filter(|name| !by_leaders.contains(name)).collect()
    }
}

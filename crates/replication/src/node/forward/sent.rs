//! Commands that are out at other nodes, found by the token that comes back with the answer, and
//! by their client. A command comes and goes without an allocation.

use super::Waiting;
use crate::{ClientId, GroupId, NodeId};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use hashbrown::HashTable;

/// The low bits of a token are the command's place, the high ones count the commands, so that an
/// answer which comes twice is nobody's.
const PLACE_BITS: u32 = 32;
/// Lists that are kept for clients to come.
const SPARE_LISTS_MAX: usize = 256;
/// 2^64 divided by the golden ratio: spreads numbers that are close to each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A command that is out.
pub(super) struct Sent {
    pub(super) command: Waiting,
    pub(super) group: GroupId,
    pub(super) to: NodeId,
    pub(super) bound: Bound,
    pub(super) attempt: u64,
    pub(super) deadline_us: u64,
}

/// What is known of a command when it goes: where its entry can be, if it becomes one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    /// A write is carried out by the leader of this epoch, or never.
    pub(super) epoch: u64,
    /// That leader's log had this entry before.
    pub(super) after_index: u64,
    /// It goes in a later batch than this one.
    pub(super) after_batch: u64,
}

/// All of them.
#[derive(Default)]
pub(super) struct AllSent {
    places: Vec<Option<(u64, Sent)>>,
    free: Vec<usize>,
    next: u64,
    /// No deadline is earlier; `None` where nothing is out.
    earliest_us: Option<u64>,
    /// What each client has out in each group; nothing shows the table's order.
    clients: HashTable<Out>,
    /// How many are out in each group that ever had some, in the groups' order.
    counts: Vec<(GroupId, usize)>,
    /// The place there that was looked for last: the next command is of the same group, mostly.
    counted_last: usize,
    spare: Vec<VecDeque<u64>>,
}

/// Commands of one client that are out in one group.
struct Out {
    client: ClientId,
    group: GroupId,
    /// Their places in the order of arrival, ascending.
    orders: VecDeque<u64>,
    /// The newest one that went out since there was none; it may be answered.
    newest: u64,
    /// Who has the one that was sent last.
    to: NodeId,
}

impl AllSent {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are out in all groups.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn iter(&self) -> impl Iterator<Item = &(u64, Sent)> {
        self.places.iter().flatten()
    }

    /// A command goes out under the token that is returned.
    pub(super) fn insert(&mut self, sent: Sent) -> (u64, &Sent) {
        self.note_client(&sent);
        *self.count_mut(sent.group) += 1;
        self.earliest_us = Some(self.next_deadline().min(sent.deadline_us));
        self.next += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let token = self.next << PLACE_BITS | place as u64;
        let (_, sent) = self.places[place].insert((token, sent));
        (token, sent)
    }

    /// A command is answered, or given up, or goes out again.
    pub(super) fn remove(&mut self, token: u64) -> Option<Sent> {
        let place = place_of(token);
        let entry = self.places.get_mut(place)?;
        let (_, sent) = entry.take_if(|(known, _)| *known == token)?;
        self.free.push(place);
        let count = self.count_mut(sent.group);
        *count = count.saturating_sub(1);
        if self.is_empty() {
            self.earliest_us = None;
        }
        self.forget_client(&sent);
        Some(sent)
    }

    fn note_client(&mut self, sent: &Sent) {
        let Some(client) = sent.command.client else { return };
        let (group, order, to) = (sent.group, sent.command.order, sent.to);
        let hash = hash(client, group);
        let found = self.clients.find_mut(hash, |out| (out.client, out.group) == (client, group));
        match found {
            Some(out) => {
                let place = out.orders.partition_point(|other| *other < order);
                out.orders.insert(place, order);
                out.newest = out.newest.max(order);
                out.to = to;
            }
            None => {
                let mut orders = self.spare.pop().unwrap_or_default();
                orders.push_back(order);
                let out = Out { client, group, orders, newest: order, to };
                self.clients.insert_unique(hash, out, |out| self::hash(out.client, out.group));
            }
        }
    }

    fn forget_client(&mut self, sent: &Sent) {
        let Some(client) = sent.command.client else { return };
        let same = |out: &Out| (out.client, out.group) == (client, sent.group);
        let Ok(mut found) = self.clients.find_entry(hash(client, sent.group), same) else { return };
        let orders = &mut found.get_mut().orders;
        if let Ok(place) = orders.binary_search(&sent.command.order) {
            orders.remove(place);
        }
        if orders.is_empty() {
            let (out, _) = found.remove();
            if self.spare.len() < SPARE_LISTS_MAX {
                self.spare.push(out.orders);
            }
        }
    }

    fn out(&self, client: ClientId, group: GroupId) -> Option<&Out> {
        let same = |out: &Out| (out.client, out.group) == (client, group);
        self.clients.find(hash(client, group), same)
    }

    /// Who has earlier commands of the same client that are out.
    pub(super) fn held_up_by(
        &self,
        client: Option<ClientId>,
        group: GroupId,
        order: u64,
    ) -> Option<NodeId> {
        let out = self.out(client?, group)?;
        out.orders.front().is_some_and(|first| *first < order).then_some(out.to)
    }

    /// Whether a later command of the same client went out: then a read must not go again, as it
    /// could see what came after it.
    pub(super) fn is_followed(&self, token: u64) -> bool {
        let entry = self.places.get(place_of(token)).and_then(Option::as_ref);
        let Some((_, sent)) = entry.filter(|(known, _)| *known == token) else { return false };
        let out = sent.command.client.and_then(|client| self.out(client, sent.group));
        out.is_some_and(|out| out.newest > sent.command.order)
    }

    /// Whether an earlier command of the same client is out that belongs to an older attempt.
    pub(super) fn is_behind(&self, command: &Waiting, group: GroupId, attempt: u64) -> bool {
        self.iter().any(|(_, sent)| {
            sent.group == group
                && sent.attempt < attempt
                && sent.command.order < command.order
                && sent.command.client == command.client
        })
    }

    /// For each node that has something, the batch before all those in which that went.
    pub(super) fn oldest_batches(&self) -> BTreeMap<NodeId, u64> {
        let mut oldest = BTreeMap::new();
        for (_, sent) in self.iter() {
            let batch = oldest.entry(sent.to).or_insert(u64::MAX);
            *batch = sent.bound.after_batch.min(*batch);
        }
        oldest
    }

    /// How many are out in a group.
    pub(super) fn count(&self, group: GroupId) -> usize {
        let place = self.counts.binary_search_by_key(&group, |(group, _)| *group);
        place.ok().and_then(|place| self.counts.get(place)).map_or(0, |(_, count)| *count)
    }

    fn count_mut(&mut self, group: GroupId) -> &mut usize {
        if self.counts.get(self.counted_last).is_none_or(|(known, _)| *known != group) {
            let place = self.counts.binary_search_by_key(&group, |(group, _)| *group);
            self.counted_last = place.unwrap_or_else(|place| {
                self.counts.insert(place, (group, 0));
                place
            });
        }
        &mut self.counts[self.counted_last].1
    }

    /// The same for all groups, counted anew: for observers.
    pub(super) fn recount(&self) -> BTreeMap<GroupId, usize> {
        let mut counts = BTreeMap::new();
        self.iter().for_each(|(_, sent)| *counts.entry(sent.group).or_default() += 1);
        counts
    }

    /// The nodes that have some.
    pub(super) fn nodes(&self) -> BTreeSet<NodeId> {
        self.iter().map(|(_, sent)| sent.to).collect()
    }

    /// Those that a node has, in order of arrival.
    pub(super) fn at(&self, node: NodeId) -> Vec<u64> {
        self.tokens(|sent| sent.to == node)
    }

    /// No deadline is earlier than this.
    pub(super) fn next_deadline(&self) -> u64 {
        self.earliest_us.unwrap_or(u64::MAX)
    }

    /// Those whose deadline has come, in order of arrival.
    pub(super) fn late(&mut self, now_us: u64) -> Vec<u64> {
        let late = self.tokens(|sent| sent.deadline_us <= now_us);
        let deadlines = self.iter().map(|(_, sent)| sent.deadline_us);
        self.earliest_us = deadlines.filter(|deadline_us| *deadline_us > now_us).min();
        late
    }

    fn tokens(&self, wanted: impl Fn(&Sent) -> bool) -> Vec<u64> {
        let some = self.iter().filter(|(_, sent)| wanted(sent));
        let mut some: Vec<(u64, u64)> =
            some.map(|(token, sent)| (sent.command.order, *token)).collect();
        some.sort_unstable();
        some.into_iter().map(|(_, token)| token).collect()
    }
}

fn place_of(token: u64) -> usize {
    (token & ((1 << PLACE_BITS) - 1)) as usize
}

fn hash(client: ClientId, group: GroupId) -> u64 {
    let name = u64::from(group.keyspace.0) << 32 | u64::from(group.partition) << 16;
    let name = name | u64::from(group.generation) << 8 | u64::from(group.datacenter.0);
    let spread = (client.0.wrapping_mul(SPREAD) ^ name).wrapping_mul(SPREAD);
    spread ^ (spread >> 32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::turn::Requester;
    use crate::{DatacenterId, KeyspaceId, RequestId};

    const GROUP: GroupId = GroupId {
        keyspace: KeyspaceId(1),
        generation: 0,
        partition: 0,
        datacenter: DatacenterId(0),
    };

    fn sent(client: u64, order: u64, deadline_us: u64) -> Sent {
        let client = ClientId(client);
        let command = Waiting {
            requester: Requester::Client(RequestId { client, sequence: order }),
            client: Some(client),
            asker: None,
            order,
            encoded: Vec::new(),
            is_write: true,
            deadline_us,
            patience_us: 0,
        };
        Sent {
            command,
            group: GROUP,
            to: NodeId(1),
            bound: Bound::default(),
            attempt: 0,
            deadline_us,
        }
    }

    #[test]
    fn a_token_is_answered_once_and_its_place_used_again() {
        let mut all = AllSent::default();
        let (first, _) = all.insert(sent(1, 1, 10));
        assert_eq!(all.remove(first).unwrap().command.order, 1);
        assert!(all.remove(first).is_none());
        let (second, _) = all.insert(sent(1, 2, 10));
        assert_eq!(place_of(first), place_of(second));
        assert!(all.remove(first).is_none(), "an answer that comes twice is nobody's");
        assert!(all.remove(second).is_some() && all.is_empty());
    }

    #[test]
    fn what_a_client_has_out_holds_up_what_it_asks_later() {
        let mut all = AllSent::default();
        let (later, earlier) = (all.insert(sent(1, 7, 10)).0, all.insert(sent(1, 3, 10)).0);
        all.insert(sent(2, 1, 10));
        let held_up = |all: &AllSent, order| all.held_up_by(Some(ClientId(1)), GROUP, order);
        assert_eq!(held_up(&all, 3), None, "nothing holds up the first one");
        assert_eq!(held_up(&all, 4), Some(NodeId(1)));
        assert!(all.is_followed(earlier) && !all.is_followed(later));
        all.remove(earlier);
        assert_eq!(held_up(&all, 7), None);
        assert_eq!(held_up(&all, 8), Some(NodeId(1)));
        all.remove(later);
        assert_eq!(held_up(&all, u64::MAX), None);
    }

    #[test]
    fn what_is_out_at_one_node_keeps_no_batch_of_another_open() {
        let mut all = AllSent::default();
        let to = |node, after_batch| {
            let bound = Bound { after_batch, ..Bound::default() };
            Sent { to: NodeId(node), bound, ..sent(1, after_batch, 10) }
        };
        let (blocked, _) = all.insert(to(1, 3));
        all.insert(to(1, 9));
        let (short, _) = all.insert(to(2, 5));
        assert_eq!(all.oldest_batches(), BTreeMap::from([(NodeId(1), 3), (NodeId(2), 5)]));
        all.remove(short);
        assert_eq!(all.oldest_batches(), BTreeMap::from([(NodeId(1), 3)]));
        all.remove(blocked);
        assert_eq!(all.oldest_batches(), BTreeMap::from([(NodeId(1), 9)]));
    }

    #[test]
    fn late_ones_come_in_order_of_arrival_and_the_next_deadline_is_never_missed() {
        let mut all = AllSent::default();
        assert_eq!(all.next_deadline(), u64::MAX);
        let tokens =
            [(3, 10), (1, 30), (2, 20)].map(|(order, at)| all.insert(sent(1, order, at)).0);
        assert_eq!(all.next_deadline(), 10);
        assert_eq!(all.late(20), [tokens[2], tokens[0]]);
        assert_eq!(all.next_deadline(), 30);
        for token in tokens {
            all.remove(token);
        }
        assert_eq!(all.next_deadline(), u64::MAX);
    }
}

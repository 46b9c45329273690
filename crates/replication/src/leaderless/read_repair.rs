//! Read repair: the action after the reply. Whoever answered with an older record gets the newer.

use super::Leaderless;
use super::operation::Phase;
use super::parts::{self, Body};
use crate::storage::store::Hashes;
use crate::turn::Turn;
use crate::wire::Reader;
use crate::{Event, NodeId};
use alloc::vec::Vec;

impl Leaderless {
    /// Writes what all answers of a read come to over the stale ones, and nothing else: the
    /// replicas merge it, so that it does no harm where something newer has come in the meantime.
    /// Nobody waits.
    pub(super) fn repair(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some(operation) = self.operations.at(place) else { return };
        let Some(held) = self.partitions.at_mut(operation.partition) else { return };
        let Phase::Reading(read) = &operation.phase else { return };
        if read.all_same() {
            return;
        }
        let (partition, hashes, key) = (operation.partition, operation.hashes, operation.key());
        let Some(merged) = operation.merged() else { return };
        let mut bytes = Vec::new();
        Body::encode(&mut bytes, key, &merged);
        let stale = read.stale(&merged);
        for node in held.nodes(stale.without(held.own())) {
            self.outbox.say(turn, node, |out| parts::repair(out, partition, &bytes));
            turn.event(Event::ReadRepaired { node, key: key.to_vec() });
        }
        if stale.has(held.own())
            && let Ok(body) = Body::decode(&mut Reader(&bytes))
        {
            held.keep(turn, hashes, &body, self.options.durability);
            turn.event(Event::ReadRepaired { node: self.me, key: key.to_vec() });
        }
    }

    /// A coordinator has seen that this replica is stale. The hashes are the key's.
    pub(super) fn on_repair(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        partition: u16,
        body: &Body<'_>,
        hashes: Hashes,
    ) {
        let Some(held) = self.partitions.at_mut(partition) else { return };
        if held.place_of(from).is_some() && held.has_slot(hashes.slot) {
            self.clock.observe(body.record.newest_stamp());
            held.keep(turn, hashes, body, self.options.durability);
        }
    }
}

//! Read repair: the action after the reply. Whoever answered with an older record gets the newer.

use super::Leaderless;
use super::operation::Phase;
use super::partition::digest_of;
use super::parts::{self, Body};
use crate::turn::Turn;
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
        let (partition, slot, key) = (operation.partition, operation.slot, operation.key());
        let mut bytes = Vec::new();
        let (stale, own_is_stale) = {
            let merged = operation.merged(held);
            let Some(record) = &merged else { return };
            Body::encode(&mut bytes, key, record);
            let knows = read.spoken().has(held.own()) && self.ready;
            let own_is_stale = knows && digest_of(held.store.get(key).as_ref()) != digest_of(merged.as_ref());
            (read.stale(merged.as_ref(), held.own()), own_is_stale)
        };
        for node in held.nodes(stale) {
            self.outbox.say(turn, node, |out| parts::repair(out, partition, &bytes));
            turn.event(Event::ReadRepaired { node, key: key.to_vec() });
        }
        if own_is_stale {
            let mut r = crate::wire::Reader(&bytes);
            if let Ok(body) = Body::decode(&mut r) {
                held.keep(turn, slot, &body, self.options.durability);
            }
            turn.event(Event::ReadRepaired { node: self.me, key: key.to_vec() });
        }
    }

    /// A coordinator has seen that this replica is stale.
    pub(super) fn on_repair(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        partition: u16,
        body: &Body<'_>,
    ) {
        let Some(held) = self.partitions.at_mut(partition) else { return };
        if let (Some(_), Some(slot)) = (held.place_of(from), held.slot(body.key)) {
            self.clock.observe(body.record.newest_stamp());
            held.keep(turn, slot, body, self.options.durability);
        }
    }
}

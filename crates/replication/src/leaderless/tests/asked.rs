//! Whom a read asks.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::leaderless::message::Parts;
use crate::leaderless::parts::Part;
use alloc::borrow::Cow;

const OTHERS: [u16; 2] = [1, 2];

/// In one turn of node 0: another node asks something, and a client reads. Whom node 0 then
/// tells something.
fn told(world: &mut World, asks: u16) -> BTreeSet<usize> {
    let mut parts = Vec::new();
    Part::Read { operation: 1, partition: 0, digest: 0, key: b"k" }.encode(&mut parts);
    let GroupId { keyspace, generation, .. } = GROUP;
    let question = Message::Batch { keyspace, generation, parts: Parts(Cow::Borrowed(&parts)) };
    world.requests += 1;
    let request = RequestId { client: ClientId(1), sequence: world.requests };
    let command = KeyCommand { key: b"k", verb: Verb::Get };
    world.turn(0, |m, turn| {
        m.on_message(turn, NodeId(asks), Incarnation(1), question);
        let group_and_slot = (GROUP, slot_of(b"k"));
        let requester = Requester::Client(request);
        m.execute(turn, requester, group_and_slot, &command, With::default());
    });
    let told = world.wire.iter().map(|(_, to, _)| *to).collect();
    world.settle();
    assert_eq!(world.reply(request.sequence), Some(bulk("v")));
    told
}

#[test]
fn mostly_those_whom_the_turn_tells_something_anyway() {
    for asks in OTHERS {
        let mut world = World::new();
        world.answer(0, "k", set(b"v"));
        let alone = |told: &BTreeSet<usize>| *told == BTreeSet::from([usize::from(asks)]);
        let turns = (0..64).map(|_| told(&mut world, asks)).filter(alone).count();
        assert!(turns >= 60, "{turns} of 64 turns have one message");
    }
}

#[test]
fn every_replica_now_and_then() {
    for asks in OTHERS {
        let mut world = World::new();
        world.answer(0, "k", set(b"v"));
        let all: BTreeSet<usize> = (0..32).flat_map(|_| told(&mut world, asks)).collect();
        assert_eq!(all, BTreeSet::from([1, 2]));
    }
}

//! Crashes, wiped disks, images of the log, and FLUSHALL.

use super::*;

impl World {
    /// A restart with an empty disk: a new incarnation, so a new actor.
    fn wipe(&mut self, node: usize) {
        let test = &mut self.nodes[node];
        test.sink.log.clear();
        (test.local.synced, test.local.written) = (Position(0), Position(0));
        test.actor += 1000;
        self.crash(node);
        self.turn(node, |m, turn| m.set_ready(turn, false));
    }

    fn flush(&mut self, node: usize) -> u64 {
        self.requests += 1;
        let sequence = self.requests;
        let requester = Requester::Client(RequestId { client: ClientId(1), sequence });
        self.turn(node, |m, turn| m.flush(turn, requester, GROUP));
        sequence
    }

    fn live(&self, node: usize) -> usize {
        self.nodes[node].model.store(GROUP).unwrap().live()
    }
}

#[test]
fn a_crash_keeps_what_was_acknowledged_and_loses_what_was_not_synced() {
    let mut world = World::new();
    world.answer(0, "kept", set(b"v"));
    world.cut = BTreeSet::from([(0, 1), (0, 2)]);
    world.ask(0, "lost", set(b"v"));
    for node in 0..NODES {
        world.crash(node);
    }
    world.cut.clear();
    assert_eq!(world.answer(1, "kept", Verb::Get), bulk("v"));
    assert_eq!(world.answer(1, "lost", Verb::Get), Reply::Nil);
}

#[test]
fn a_stamp_is_not_given_again_after_a_crash_that_lost_it() {
    let mut world = World::new();
    world.answer(0, "warm", set(b"up"));
    // The peers keep a write whose own copy is lost in the crash.
    world.ask(0, "k", set(b"lost here"));
    world.deliver_all();
    let before = world.record(1, b"k").unwrap();
    world.crash(0);
    world.cut = BTreeSet::from([(1, 0), (2, 0)]);
    world.ask(0, "k", set(b"again"));
    let after = world.record(0, b"k").unwrap();
    assert!(after.stamp > before.stamp, "the clock begins above the ceiling");
    assert_ne!(after.dot, before.dot);
}

#[test]
fn a_write_above_the_ceiling_waits_for_the_ceiling() {
    let mut world = World::new();
    world.ask(0, "k", set(b"v"));
    assert!(world.wire.is_empty(), "its name may be given again after a crash");
    world.sync(0);
    assert_eq!(world.wire.len(), 2);
    world.settle();
    world.ask(0, "k", set(b"w"));
    assert_eq!(world.wire.len(), 2, "below the ceiling it travels while the log syncs");
}

#[test]
fn a_wiped_replica_says_not_ready_until_it_has_everything_back() {
    let mut world = World::new();
    world.isolate(2);
    world.answer(0, "k", set(b"v"));
    for i in 0..100 {
        world.answer(1, &format!("k{i}"), set(b"v"));
    }
    world.pass(2000);
    world.cut.clear();
    // Now 0 and 1 hold the keys, 2 does not; the disk of 1 is lost.
    world.cut = BTreeSet::from([(1, 0)]);
    world.wipe(1);
    world.settle();
    assert!(!world.nodes[1].model.is_ready(), "it needs every other replica");
    let read = world.ask(2, "k", Verb::Get);
    world.cut.insert((0, 2));
    world.settle();
    world.pass(1000);
    assert!(world.error(read).starts_with("NOREPLICAS answered=1 need=2"), "never not found");
    world.cut.clear();
    for _ in 0..4 {
        world.pass(500);
        world.settle();
    }
    assert!(world.nodes[1].model.is_ready());
    assert_eq!(world.digest(0), world.digest(1));
    assert_eq!(world.answer(2, "k", Verb::Get), bulk("v"));
}

#[test]
fn a_wiped_replica_that_crashes_on_its_way_is_not_ready_either() {
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    world.isolate(1);
    world.wipe(1);
    world.settle();
    world.crash(1);
    assert!(!world.nodes[1].model.is_ready());
    world.cut.clear();
    world.pass(1);
    world.settle();
    assert!(world.nodes[1].model.is_ready());
    world.crash(1);
    assert!(world.nodes[1].model.is_ready());
    assert_eq!(world.digest(0), world.digest(1));
}

#[test]
fn the_image_of_all_slots_replaces_the_log_before_it() {
    let mut world = World::new();
    for i in 0..200 {
        world.answer(i % NODES, &format!("k{}", i % 50), set(i.to_string().as_bytes()));
        world.answer(i % NODES, "n", Verb::Increment(1));
    }
    let digest = world.digest(0);
    let start = world.nodes[0].sink.log.len();
    let (mut slot, mut steps) = (Some(0), 0);
    while let Some(from) = slot {
        slot = world.turn(0, |m, turn| m.image(turn, GROUP, from, 500));
        steps += 1;
    }
    assert!(steps > 5, "bounded steps");
    world.sync(0);
    let test = &mut world.nodes[0];
    // Positions go on; the records before the image are gone.
    test.sink.log.drain(..start);
    let end = Position(test.sink.log.len() as u64);
    (test.local.synced, test.local.written) = (end, end);
    world.crash(0);
    assert_eq!(world.digest(0), digest);
    let ceiling = world.nodes[0].model.ceiling.newest();
    assert!(ceiling > world.record(0, b"n").unwrap().newest_stamp());
}

#[test]
fn junk_in_the_log_is_told_from_records() {
    let mut model = model(0, 1, Durability::Fsync);
    assert!(model.replay(&mut Reader(b"junk")).is_err());
    let mut bytes = Vec::new();
    let other = GroupId { partition: 9, ..GROUP };
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    let record = world.record(0, b"k").unwrap();
    let mut body = Vec::new();
    parts::Body::encode(&mut body, b"k", &record);
    bytes.extend_from_slice(&crate::leaderless::recovery::put_head(other));
    bytes.extend_from_slice(&body);
    assert!(model.replay(&mut Reader(&bytes[1..])).is_err(), "not a partition of this node");
}

#[test]
fn a_flush_deletes_also_what_the_coordinator_did_not_hold() {
    let mut world = World::new();
    world.isolate(0);
    for i in 0..500 {
        world.ask(1, &format!("k{i}"), set(b"v"));
    }
    world.settle();
    world.pass(2000);
    world.cut.clear();
    assert_eq!((world.live(0), world.live(1)), (0, 500));
    let flush = world.flush(0);
    let later = world.ask(0, "k7", set(b"after the flush"));
    world.settle();
    assert_eq!(world.reply(flush), Some(Reply::Ok));
    assert_eq!(world.reply(later), Some(Reply::Ok));
    assert_eq!(world.live(1), 1);
    for node in 0..NODES {
        assert_eq!(world.answer(node, "k3", Verb::Get), Reply::Nil);
        assert_eq!(world.answer(node, "k7", Verb::Get), bulk("after the flush"));
    }
}

#[test]
fn a_flush_without_r_replicas_says_so() {
    let mut world = World::new();
    world.answer(0, "k", set(b"v"));
    world.isolate(0);
    let flush = world.flush(0);
    world.settle();
    world.pass(1000);
    assert_eq!(world.reply(flush), None);
    world.pass(60_000);
    assert!(world.error(flush).starts_with("PARTIAL answered=1 need=2"));
}

#[test]
fn what_claims_or_compares_is_refused_by_name() {
    let mut world = World::new();
    for (verb, name) in [
        (Verb::SetIfAbsent(b"v"), "SETNX"),
        (Verb::GetSet(b"v"), "GETSET"),
        (Verb::GetDelete, "GETDEL"),
        (Verb::Append(b"v"), "APPEND"),
        (Verb::SetRange(1, b"v"), "SETRANGE"),
    ] {
        let request = world.ask(0, "k", verb);
        assert!(world.error(request).starts_with(&format!("NEEDCOORD {name} ")));
    }
    for (with, letter) in [
        (With { w: Some(4), ..With::default() }, 'W'),
        (With { r: Some(0), ..With::default() }, 'R'),
    ] {
        let request = world.with(0, "k", Verb::Get, with);
        assert!(world.error(request).starts_with(&format!("ERR {letter} must be between 1 and 3")));
    }
}

#[test]
fn a_queue_that_is_full_says_so() {
    let mut world = World::new();
    let requests: Vec<u64> =
        (0..queue::KEY_QUEUE_MAX + 2).map(|_| world.ask(0, "n", Verb::Increment(1))).collect();
    assert!(world.error(*requests.last().unwrap()).starts_with("TRYAGAIN 1024 writes of this key"));
    world.settle();
    assert_eq!(world.answer(1, "n", Verb::Get), bulk("1025"));
}

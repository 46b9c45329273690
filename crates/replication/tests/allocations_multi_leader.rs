//! A SET over a value of the same size asks the allocator for next to nothing, in the datacenter
//! that acknowledges it and in the two that take it over, once tables, logs and buffers have their
//! size. In a file of its own, as the count is the whole process's.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use replication::keyspace::{
    Acks, Cluster, Conflicts, Durability, GroupOptions, Keyspace, Member, Model, MultiLeader,
};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{
    ClientId, DatacenterId, Effects, Event, Incarnation, Input, KeyspaceId, Message, Node, NodeId,
    Position, Reply, RequestId, Requests, Setup, Span, Time, frame,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NODES: u16 = 3;
/// SETs that one read of the client's socket holds, each of another key.
const PIPELINE: u32 = 64;
const VALUE_BYTES: usize = 100;
const CLUSTER_DIGEST: u64 = 7;
const FRAME_BYTES_MAX: usize = 64 << 20;
/// All logs have reached their bound by then.
const ROUNDS_OF_WARMING_UP: u64 = 500;
const ROUNDS_COUNTED: u64 = 200;
const START_ROUNDS: u64 = 500;
/// Time that passes in a round while the nodes start, in microseconds, and afterwards.
const START_ROUND_US: u64 = 10_000;
const ROUND_US: u64 = 50;
/// For all nodes together. A turn's log record may cost one, and so may a message of a heartbeat.
const ALLOCATIONS_PER_SET_MAX: f64 = 0.1;

/// Where a node's effects go.
#[derive(Default)]
struct Sink {
    position: u64,
    answered: u64,
    frames: [Vec<u8>; NODES as usize],
    me: u16,
}

impl Effects for Sink {
    fn append_parts(&mut self, _: &[u8], _: &[u8], _: Durability) -> Position {
        self.position += 1;
        Position(self.position)
    }

    fn truncate(&mut self, _: Position) {}

    fn send(&mut self, to: NodeId, message: &Message<'_>) {
        let frame = &mut self.frames[usize::from(to.0)];
        if frame.is_empty() {
            frame::begin(frame, CLUSTER_DIGEST, NodeId(self.me), incarnation(self.me));
        }
        frame::push(frame, message);
    }

    fn reply(&mut self, _: RequestId, reply: &Reply<'_>) {
        assert!(matches!(reply, Reply::Ok), "{reply:?}");
        self.answered += 1;
    }

    fn event(&mut self, _: &Event) {}
}

fn incarnation(node: u16) -> Incarnation {
    Incarnation(100 + u64::from(node))
}

struct Machine {
    node: Node,
    sink: Sink,
    arrived: Vec<Vec<u8>>,
}

impl Machine {
    fn open(cluster: &Cluster, me: u16, now: Time) -> Machine {
        // The log's own size is soon reached, and no checkpoint is due.
        let limits =
            Limits { log_bytes_max: 1 << 20, checkpoint_bytes: u64::MAX, ..Limits::default() };
        let setup = Setup {
            cluster: cluster.clone(),
            me: NodeId(me),
            new_incarnation: incarnation(me),
            seed: 1 + u64::from(me),
            timing: Timing::default(),
            limits,
            mutants: Mutants::default(),
            may_have_lost_unsynced: false,
            damaged: false,
        };
        let mut sink = Sink { me, ..Sink::default() };
        let node = Node::open(setup, std::iter::empty(), now, &mut sink).unwrap();
        Machine { node, sink, arrived: Vec::new() }
    }

    fn turn(&mut self, now: Time, requests: Option<Requests<'_>>, spare: &mut Vec<Vec<u8>>) {
        let position = Position(self.sink.position);
        let durable = Input::Durable { written: position, synced: position };
        self.node.step(now, durable, &mut self.sink);
        for mut bytes in self.arrived.drain(..) {
            let (mut frame, _) =
                frame::split(&bytes, CLUSTER_DIGEST, FRAME_BYTES_MAX).unwrap().unwrap();
            let (from, incarnation) = (frame.from, frame.incarnation);
            while let Some(message) = frame.message() {
                let message = message.unwrap();
                let input = Input::Message { from, incarnation, message };
                self.node.step(now, input, &mut self.sink);
            }
            bytes.clear();
            spare.push(bytes);
        }
        if let Some(requests) = requests {
            self.node.step(now, Input::Requests(requests), &mut self.sink);
        }
        if self.node.next_deadline() <= now.monotonic_us {
            self.node.step(now, Input::Tick, &mut self.sink);
        }
        self.node.step(now, Input::TurnEnd, &mut self.sink);
    }
}

/// Three datacenters of one node each, and what a client of the first one sends.
struct World {
    machines: Vec<Machine>,
    now: Time,
    spare: Vec<Vec<u8>>,
    sequence: u64,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    ends: Vec<u32>,
}

impl World {
    fn start() -> World {
        let group = GroupOptions {
            acks: Acks::Async,
            durability: Durability::Interval,
            ..GroupOptions::defaults(1)
        };
        let model = Model::MultiLeader(MultiLeader {
            datacenters: (0..NODES as u8).map(DatacenterId).collect(),
            partitions: 1,
            group,
            conflicts: Conflicts::LastWriteWins,
        });
        let member = |node: u16| {
            let datacenter = DatacenterId(node as u8);
            Member { name: format!("n{node}"), datacenter }
        };
        let cluster = Cluster {
            name: "three".into(),
            secret: 1,
            datacenters: (0..NODES).map(|number| format!("dc{number}")).collect(),
            members: (0..NODES).map(member).collect(),
            keyspaces: vec![Keyspace { id: KeyspaceId(1), prefix: Vec::new(), model }],
        };
        let now = Time { monotonic_us: 1, wall_ms: 1_800_000_000_000 };
        let machines = (0..NODES).map(|me| Machine::open(&cluster, me, now)).collect();
        let (bytes, spans, ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = World { machines, now, spare: vec![], sequence: 0, bytes, spans, ends };
        for _ in 0..START_ROUNDS {
            world.round(START_ROUND_US, false);
        }
        for key in 0..PIPELINE {
            for word in [&b"SET"[..], format!("key:{key:012}").as_bytes(), &[b'v'; VALUE_BYTES]] {
                let start = world.bytes.len() as u32;
                world.spans.push(Span { start, length: word.len() as u32 });
                world.bytes.extend_from_slice(word);
            }
            world.ends.push(world.spans.len() as u32);
        }
        world
    }

    fn round(&mut self, round_us: u64, with_requests: bool) {
        self.now.monotonic_us += round_us;
        self.now.wall_ms = 1_800_000_000_000 + self.now.monotonic_us / 1000;
        for me in 0..self.machines.len() {
            let requests = Requests {
                client: ClientId(1),
                label: b"127.0.0.1:50000",
                first_sequence: self.sequence,
                bytes: &self.bytes,
                spans: &self.spans,
                ends: &self.ends,
            };
            let requests = (with_requests && me == 0).then_some(requests);
            self.machines[me].turn(self.now, requests, &mut self.spare);
            for to in 0..self.machines.len() {
                if !self.machines[me].sink.frames[to].is_empty() {
                    let next = self.spare.pop().unwrap_or_default();
                    let mut frame = std::mem::replace(&mut self.machines[me].sink.frames[to], next);
                    frame::finish(&mut frame, 0);
                    self.machines[to].arrived.push(frame);
                }
            }
        }
        self.sequence += if with_requests { u64::from(PIPELINE) } else { 0 };
    }

    /// So many rounds in which the client sends what it has; how many SETs are answered.
    fn rounds(&mut self, rounds: u64) -> u64 {
        let before = self.machines[0].sink.answered;
        (0..rounds).for_each(|_| self.round(ROUND_US, true));
        self.round(ROUND_US, false);
        self.machines[0].sink.answered - before
    }

    fn digests(&self) -> Vec<Option<u64>> {
        let of = |machine: &Machine| {
            let mut groups = machine.node.groups();
            groups.next().and_then(|group| machine.node.digest(group.id))
        };
        self.machines.iter().map(of).collect()
    }
}

#[test]
fn a_set_that_three_datacenters_take_asks_the_allocator_for_next_to_nothing() {
    let mut world = World::start();
    world.rounds(ROUNDS_OF_WARMING_UP);
    let region = Region::new(ALLOCATOR);
    let sets = world.rounds(ROUNDS_COUNTED);
    let change = region.change();
    assert_eq!(sets, ROUNDS_COUNTED * u64::from(PIPELINE));
    let asked = (change.allocations + change.reallocations) as f64;
    assert!(asked <= sets as f64 * ALLOCATIONS_PER_SET_MAX, "{asked} for {sets} SETs: {change:?}");
    (0..4).for_each(|_| world.round(ROUND_US, false));
    let digests = world.digests();
    assert!(digests.iter().all(|digest| digest.is_some() && *digest == digests[0]), "{digests:?}");
}

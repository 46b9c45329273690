//! The allocator is not asked for anything by GET, nor by a SET over a value of the same size, once
//! tables, logs and buffers have their size. One test, as the count is the whole process's.
#![allow(clippy::unwrap_used, missing_docs)]

use replication::keyspace::{
    Acks, Cluster, Durability, GroupOptions, Keyspace, LeaderFollower, Member, Model,
};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::{
    ClientId, DatacenterId, Effects, Event, Incarnation, Input, KeyspaceId, Message, Node, NodeId,
    Position, Reply, RequestId, Requests, Setup, Span, Time,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: u64 = 10;
const KEYS: u64 = 500;
const PIPELINE: u64 = 16;
const VALUE_BYTES: usize = 100;
const TURNS_OF_WARMING_UP: u64 = 2_000;
const TURNS_COUNTED: u64 = 500;
const TURN_US: u64 = 50;

/// A driver that keeps nothing.
#[derive(Default)]
struct Sink {
    position: u64,
    answered: u64,
}

impl Effects for Sink {
    fn append_parts(&mut self, _: &[u8], _: &[u8], _: Durability) -> Position {
        self.position += 1;
        Position(self.position)
    }

    fn truncate(&mut self, _: Position) {}

    fn send(&mut self, _: NodeId, _: &Message<'_>) {}

    fn reply(&mut self, _: RequestId, reply: &Reply<'_>) {
        assert!(matches!(reply, Reply::Ok | Reply::Bulk(_)), "{reply:?}");
        self.answered += 1;
    }

    fn event(&mut self, _: &Event) {}
}

/// One node that leads its only group.
struct Machine {
    node: Node,
    sink: Sink,
    now: Time,
    sequence: u64,
}

impl Machine {
    fn start() -> Machine {
        let group = GroupOptions {
            acks: Acks::Async,
            durability: Durability::Interval,
            ..GroupOptions::defaults(1)
        };
        let home = DatacenterId(0);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
        let cluster = Cluster {
            name: "one".into(),
            secret: 1,
            datacenters: vec!["here".into()],
            members: vec![Member { name: "n0".into(), datacenter: home }],
            keyspaces: vec![Keyspace { id: KeyspaceId(1), prefix: Vec::new(), model }],
        };
        // The log's own size is soon reached, and no checkpoint is due.
        let limits =
            Limits { log_bytes_max: 1 << 20, checkpoint_bytes: u64::MAX, ..Limits::default() };
        let setup = Setup {
            cluster,
            me: NodeId(0),
            new_incarnation: Incarnation(1),
            seed: 1,
            timing: Timing::default(),
            limits,
            mutants: Mutants::default(),
            may_have_lost_unsynced: false,
            damaged: false,
        };
        let mut sink = Sink::default();
        let now = Time { monotonic_us: 1, wall_ms: 1_800_000_000_000 };
        let node = Node::open(setup, std::iter::empty(), now, &mut sink).unwrap();
        let mut machine = Machine { node, sink, now, sequence: 0 };
        while !machine.node.groups().all(|group| group.is_serving()) {
            assert!(machine.now.monotonic_us < 60_000_000, "nobody leads");
            machine.now.monotonic_us += 10_000;
            machine.turn(&[]);
        }
        machine
    }

    fn turn(&mut self, reads: &[Read]) {
        self.now.monotonic_us += TURN_US;
        self.now.wall_ms += u64::from(self.now.monotonic_us % 1000 < TURN_US);
        let position = Position(self.sink.position);
        let durable = Input::Durable { written: position, synced: position };
        self.node.step(self.now, durable, &mut self.sink);
        for (client, read) in (1..).map(ClientId).zip(reads) {
            let requests = Requests {
                client,
                label: b"127.0.0.1:50000",
                first_sequence: self.sequence,
                bytes: &read.bytes,
                spans: &read.spans,
                ends: &read.ends,
            };
            self.node.step(self.now, Input::Requests(requests), &mut self.sink);
        }
        self.sequence += PIPELINE;
        if self.node.next_deadline() <= self.now.monotonic_us {
            self.node.step(self.now, Input::Tick, &mut self.sink);
        }
        self.node.step(self.now, Input::TurnEnd, &mut self.sink);
    }

    /// So many turns in which each client sends what it has; then all are answered.
    fn turns(&mut self, turns: u64, reads: &[Read]) -> u64 {
        let before = self.sink.answered;
        for _ in 0..turns {
            self.turn(reads);
        }
        self.turn(&[]);
        let commands = turns * CLIENTS * PIPELINE;
        assert_eq!(self.sink.answered - before, commands);
        commands
    }
}

/// What one read of a client's socket holds.
#[derive(Default)]
struct Read {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    ends: Vec<u32>,
}

impl Read {
    fn command(&mut self, words: &[&[u8]]) {
        for word in words {
            self.spans.push(Span { start: self.bytes.len() as u32, length: word.len() as u32 });
            self.bytes.extend_from_slice(word);
        }
        self.ends.push(self.spans.len() as u32);
    }
}

/// A read for each client, of commands on keys of its own.
fn reads(words: impl Fn(&mut Read, &[u8])) -> Vec<Read> {
    (0..CLIENTS)
        .map(|client| {
            let mut read = Read::default();
            for number in 0..PIPELINE {
                let key = format!("key:{:08}", (client * PIPELINE + number) % KEYS);
                words(&mut read, key.as_bytes());
            }
            read
        })
        .collect()
}

#[test]
fn get_and_an_overwriting_set_ask_the_allocator_for_nothing() {
    let sets = reads(|read, key| read.command(&[b"SET", key, &[b'v'; VALUE_BYTES]]));
    let gets = reads(|read, key| read.command(&[b"GET", key]));
    let mut machine = Machine::start();
    machine.turns(TURNS_OF_WARMING_UP, &sets);
    for (name, reads) in [("GET", &gets), ("SET", &sets)] {
        machine.turns(TURNS_OF_WARMING_UP / 10, reads);
        let region = Region::new(ALLOCATOR);
        let commands = machine.turns(TURNS_COUNTED, reads);
        let change = region.change();
        let asked = change.allocations + change.reallocations;
        assert!(asked == 0, "{asked} for {commands} times {name}: {change:?}");
    }
}

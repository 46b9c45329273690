//! Three replicas whose messages are carried by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod asked;
mod chaos;
mod protocol;
mod recovery;

use super::*;
use crate::command::Reply;
use crate::command::verb::Expiry;
use crate::keyspace::Durability;
use crate::keyspace::slot::slot_of;
use crate::mutant::Mutants;
use crate::random::Random;
use crate::storage::record::Record;
use crate::turn::Local;
use crate::wire::Reader;
use crate::{ClientId, Effects, Event, RequestId, Time};
use alloc::string::ToString;

const GROUP: GroupId = GroupId {
    keyspace: KeyspaceId(7),
    generation: 0,
    partition: 0,
    datacenter: GroupId::EVERYWHERE,
};
const NODES: usize = 3;

/// What a node has asked of its driver.
#[derive(Default)]
struct Sink {
    log: Vec<Vec<u8>>,
    sent: Vec<(NodeId, Vec<u8>)>,
    replies: Vec<(u64, Reply<'static>)>,
    events: Vec<Event>,
}

impl Effects for Sink {
    fn append_parts(&mut self, head: &[u8], rest: &[u8], _: Durability) -> Position {
        self.log.push([head, rest].concat());
        Position(self.log.len() as u64)
    }
    fn truncate(&mut self, _: Position) {}
    fn send(&mut self, to: NodeId, message: &crate::Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.sent.push((to, bytes));
    }
    fn reply(&mut self, request: RequestId, reply: &Reply<'_>) {
        self.replies.push((request.sequence, reply.clone().into_owned()));
    }
    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }
}

struct TestNode {
    model: Leaderless,
    local: Local,
    sink: Sink,
    /// Ahead of the true time.
    skew_ms: u64,
    actor: u64,
}

struct World {
    nodes: Vec<TestNode>,
    now: Time,
    wire: Vec<(usize, usize, Vec<u8>)>,
    /// Pairs (from, to) between which nothing arrives.
    cut: BTreeSet<(usize, usize)>,
    requests: u64,
    random: Random,
    mutants: Mutants,
    durability: Durability,
}

fn options(durability: Durability) -> keyspace::Leaderless {
    keyspace::Leaderless { partitions: 1, n: 3, w: 2, r: 2, durability, timeout_ms: 1000 }
}

fn model(me: usize, actor: u64, durability: Durability) -> Leaderless {
    let replicas = (0..NODES as u16).map(NodeId).collect();
    let partition = Partition { group: GROUP, first_slot: 0, last_slot: 16383, replicas };
    Leaderless::new(&options(durability), alloc::vec![partition], NodeId(me as u16), actor, 9)
}

fn set(value: &[u8]) -> Verb<'_> {
    Verb::Set { value, expiry: Expiry::Clear, condition: Condition::Always, get: false }
}

fn bulk(text: &str) -> Reply<'static> {
    Reply::Bulk(text.as_bytes().to_vec().into())
}

impl World {
    fn new() -> World {
        World::with_durability(Durability::Fsync)
    }

    fn with_durability(durability: Durability) -> World {
        let node = |me: usize| {
            let local =
                Local::new(NodeId(me as u16), Incarnation(1), me as u64, Mutants::default());
            let actor = 100 + me as u64;
            TestNode {
                model: model(me, actor, durability),
                local,
                sink: Sink::default(),
                skew_ms: 0,
                actor,
            }
        };
        let now = Time { monotonic_us: 1, wall_ms: 1_000_000 };
        let nodes = (0..NODES).map(node).collect();
        let (wire, cut) = (Vec::new(), BTreeSet::new());
        let (random, mutants) = (Random::new(5), Mutants::default());
        World { nodes, now, wire, cut, requests: 0, random, mutants, durability }
    }

    fn turn<T>(&mut self, node: usize, act: impl FnOnce(&mut Leaderless, &mut Turn<'_>) -> T) -> T {
        let TestNode { model, local, sink, skew_ms, .. } = &mut self.nodes[node];
        let mut now = self.now;
        now.wall_ms += *skew_ms;
        let mut turn = Turn { now, effects: sink, local };
        let result = act(model, &mut turn);
        model.on_turn_end(&mut turn);
        for (to, bytes) in sink.sent.drain(..) {
            if !self.cut.contains(&(node, usize::from(to.0))) {
                self.wire.push((node, usize::from(to.0), bytes));
            }
        }
        result
    }

    fn with(&mut self, node: usize, key: &str, verb: Verb<'_>, with: With) -> u64 {
        self.requests += 1;
        let sequence = self.requests;
        let requester = Requester::Client(RequestId { client: ClientId(1), sequence });
        let command = KeyCommand { key: key.as_bytes(), verb };
        self.turn(node, |m, turn| {
            m.execute(turn, requester, (GROUP, slot_of(command.key)), &command, with)
        });
        sequence
    }

    fn ask(&mut self, node: usize, key: &str, verb: Verb<'_>) -> u64 {
        self.with(node, key, verb, With::default())
    }

    /// Everything that a node has logged is on its disk.
    fn sync(&mut self, node: usize) {
        let end = Position(self.nodes[node].sink.log.len() as u64);
        let local = &mut self.nodes[node].local;
        (local.written, local.synced) = (end, end);
        self.turn(node, |m, turn| {
            turn.send_owed();
            m.on_durable(turn);
        });
    }

    fn deliver(&mut self, (from, to, bytes): (usize, usize, Vec<u8>)) {
        let crate::Message::Leaderless(message) = crate::Message::decode(&bytes).unwrap() else {
            panic!("a message of another model")
        };
        let from = NodeId(from as u16);
        self.turn(to, |m, turn| m.on_message(turn, from, Incarnation(1), message));
    }

    /// Delivers everything once, in order.
    fn deliver_all(&mut self) {
        for message in core::mem::take(&mut self.wire) {
            self.deliver(message);
        }
    }

    /// Syncs and delivers until nothing happens any more.
    fn settle(&mut self) {
        loop {
            (0..NODES).for_each(|node| self.sync(node));
            if self.wire.is_empty() {
                return;
            }
            self.deliver_all();
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
        self.now.wall_ms += ms;
        (0..NODES).for_each(|node| self.turn(node, Leaderless::on_tick));
    }

    fn isolate(&mut self, node: usize) {
        self.cut = (0..NODES).flat_map(|other| [(node, other), (other, node)]).collect();
    }

    fn reply(&self, request: u64) -> Option<Reply<'static>> {
        let mut replies = self.nodes.iter().flat_map(|node| &node.sink.replies);
        replies.find(|(sequence, _)| *sequence == request).map(|(_, reply)| reply.clone())
    }

    fn error(&self, request: u64) -> String {
        match self.reply(request) {
            Some(Reply::Error(text)) => text.to_string(),
            other => panic!("no error: {other:?}"),
        }
    }

    /// The reply when all has settled.
    fn answer(&mut self, node: usize, key: &str, verb: Verb<'_>) -> Reply<'static> {
        let request = self.ask(node, key, verb);
        self.settle();
        self.reply(request).unwrap()
    }

    /// A restart after a crash that loses what was not synced.
    fn crash(&mut self, node: usize) {
        let test = &mut self.nodes[node];
        test.sink.log.truncate(test.local.synced.0 as usize);
        test.model = model(node, test.actor, self.durability);
        for record in &test.sink.log {
            let mut r = Reader(record);
            assert_eq!(r.u8().unwrap(), RECORD_KIND);
            assert_eq!(keyspace_of_record(&r).unwrap(), GROUP.keyspace);
            test.model.replay(&mut r).unwrap();
        }
        let (synced, seed) = (test.local.synced, self.random.next_u64());
        test.local = Local::new(NodeId(node as u16), Incarnation(1), seed, self.mutants);
        (test.local.synced, test.local.written) = (synced, synced);
    }

    fn record(&self, node: usize, key: &[u8]) -> Option<Record<'static>> {
        self.nodes[node].model.store(GROUP).unwrap().get(key).map(Record::into_owned)
    }

    fn digest(&self, node: usize) -> u64 {
        self.nodes[node].model.store(GROUP).unwrap().digest()
    }

    fn repaired(&self, node: usize) -> Vec<NodeId> {
        let repaired = |event: &Event| match event {
            Event::ReadRepaired { node, .. } => Some(*node),
            _ => None,
        };
        self.nodes[node].sink.events.iter().filter_map(repaired).collect()
    }
}

//! What a command costs in the core: a cluster in one thread, without sockets and disks, carries
//! out so many operations of one kind; log records, frames and their checksums are made and read
//! as the server does it.
//!
//! ```text
//! step_cost CASE [--operations N] [--pipeline P] [--clients C]
//! CASE: get | set | replicated-get | replicated-set | proxied-get | proxied-set | quorum-set |
//!       quorum-get | multi-leader-set; behind get, set and replicated-set there may be
//!       -in-N-partitions or -in-N-keyspaces
//! ```
//!
//! A round takes one read of each client, so that with one client and no pipeline an operation
//! costs what turns cost whatever is in them. Prints the allocations per operation. The
//! instructions per operation, all nodes together, are what callgrind counts for 20,000 more
//! operations, divided by 20,000: the start and the filling of the table are in both runs
//! (`tests/step_cost.rs` does that, and holds the baseline).
//!
//! ```text
//! cargo build --release -p replication --example step_cost
//! valgrind --tool=callgrind target/release/examples/step_cost set
//! callgrind_annotate callgrind.out.*
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use replication::keyspace::{
    Acks, Cluster, Conflicts, Durability, GroupOptions, Keyspace, LeaderFollower, Leaderless,
    Member, Model, MultiLeader,
};
use replication::mutant::Mutants;
use replication::node::{Limits, Timing};
use replication::random::Random;
use replication::storage::log::LogWriter;
use replication::{
    ClientId, DatacenterId, Effects, Event, Incarnation, Input, KeyspaceId, Message, Node, NodeId,
    Position, Reply, RequestId, Requests, Setup, Span, Time, frame,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Connections, dealt over the nodes that take commands.
const CLIENTS: u64 = 48;
const KEYS: u64 = 4_000;
const VALUE_BYTES: usize = 100;
/// What the filling of the table is enough for: a log that grows asks for memory.
const LOG_BYTES_MAX: usize = 256 << 10;
const CLUSTER_DIGEST: u64 = 7;
const FRAME_BYTES_MAX: usize = 64 << 20;
/// What one turn of a node takes, in microseconds of the cluster's clock.
const TURN_US: u64 = 50;
/// How long the start takes: elections, and until everybody knows who leads.
const START_US: u64 = 5_000_000;
/// Nothing happens meanwhile that would need shorter steps.
const START_STEP_US: u64 = 5_000;
/// How long the nodes rest when the table is filled: followers hear by a heartbeat what of it is
/// committed, and apply it.
const REST_US: u64 = 1_000_000;
/// By then what a datacenter has acknowledged is everywhere.
const IDLE_ROUNDS: u64 = 4;
/// After so many turns without an answer, something is wrong.
const TURNS_MAX: u64 = 1_000_000;

/// Where a node's effects go.
struct Sink {
    log: LogWriter,
    batch: Vec<u8>,
    frames: Vec<Vec<u8>>,
    me: NodeId,
    incarnation: Incarnation,
    replies: Vec<u8>,
    answered: u64,
}

impl Effects for Sink {
    fn append_parts(&mut self, head: &[u8], rest: &[u8], _: Durability) -> Position {
        self.log.append_parts(head, rest)
    }

    fn truncate(&mut self, _: Position) {}

    fn send(&mut self, to: NodeId, message: &Message<'_>) {
        let frame = &mut self.frames[usize::from(to.0)];
        if frame.is_empty() {
            frame::begin(frame, CLUSTER_DIGEST, self.me, self.incarnation);
        }
        frame::push(frame, message);
    }

    fn reply(&mut self, _: RequestId, reply: &Reply<'_>) {
        self.answered += 1;
        match reply {
            Reply::Ok => self.replies.extend_from_slice(b"+OK\r\n"),
            Reply::Bulk(bytes) => self.replies.extend_from_slice(bytes),
            other => panic!("an unexpected answer: {other:?}"),
        }
    }

    fn event(&mut self, _: &Event) {}
}

/// A node with what is on its way to it.
struct Machine {
    node: Node,
    sink: Sink,
    arrived: Vec<Vec<u8>>,
    written: Position,
    told: Position,
}

impl Machine {
    fn open(cluster: &Cluster, me: NodeId, now: Time) -> Machine {
        // As large as one that was drawn: numbers that are small are kept in fewer bytes.
        let incarnation = Incarnation((100 + u64::from(me.0)) << 40);
        let setup = Setup {
            cluster: cluster.clone(),
            me,
            new_incarnation: incarnation,
            seed: 1 + u64::from(me.0),
            timing: Timing::default(),
            limits: Limits { log_bytes_max: LOG_BYTES_MAX, ..Limits::default() },
            mutants: Mutants::default(),
            may_have_lost_unsynced: false,
            damaged: false,
        };
        let mut sink = Sink {
            log: LogWriter::new(Position(1), 0),
            batch: Vec::new(),
            frames: vec![Vec::new(); cluster.members.len()],
            me,
            incarnation,
            replies: Vec::new(),
            answered: 0,
        };
        let node = Node::open(setup, std::iter::empty(), now, &mut sink).unwrap();
        Machine { node, sink, arrived: Vec::new(), written: Position(0), told: Position(0) }
    }

    /// One turn, as the server's event loop goes: the log, the peers, the clients, the end.
    fn turn(&mut self, now: Time, reads: &[Read], spare: &mut Vec<Vec<u8>>) {
        if self.told < self.written {
            self.told = self.written;
            let input = Input::Durable { written: self.written, synced: self.written };
            self.node.step(now, input, &mut self.sink);
        }
        for mut bytes in self.arrived.drain(..) {
            let whole = frame::split(&bytes, CLUSTER_DIGEST, FRAME_BYTES_MAX);
            let (mut frame, _) = whole.unwrap().expect("a whole frame");
            let (from, incarnation) = (frame.from, frame.incarnation);
            while let Some(message) = frame.message() {
                let message = message.unwrap();
                self.node.step(now, Input::Message { from, incarnation, message }, &mut self.sink);
            }
            bytes.clear();
            spare.push(bytes);
        }
        for read in reads {
            self.node.step(now, Input::Requests(read.requests()), &mut self.sink);
        }
        if self.node.next_deadline() <= now.monotonic_us {
            self.node.step(now, Input::Tick, &mut self.sink);
        }
        self.node.step(now, Input::TurnEnd, &mut self.sink);
        self.sink.batch.clear();
        if let Some(sealed) = self.sink.log.seal(self.written, &mut self.sink.batch) {
            self.written = sealed.last;
        }
        self.sink.replies.clear();
    }
}

/// What one read of a client's socket holds.
struct Read {
    client: ClientId,
    first_sequence: u64,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    ends: Vec<u32>,
}

impl Read {
    fn new(client: u64) -> Read {
        let (bytes, spans, ends) = (Vec::new(), Vec::new(), Vec::new());
        Read { client: ClientId(client), first_sequence: 0, bytes, spans, ends }
    }

    /// Other commands in place of those of before.
    fn refill(&mut self, case: &Case, pipeline: usize, random: &mut Random) {
        self.first_sequence += self.ends.len() as u64;
        self.bytes.clear();
        self.spans.clear();
        self.ends.clear();
        for _ in 0..pipeline {
            let key = random.range(0, KEYS);
            self.command(case, case.name.ends_with("get"), key);
        }
    }

    fn command(&mut self, case: &Case, get: bool, key: u64) {
        self.word(if get { b"GET" } else { b"SET" });
        let mut name = *b"key:000000000000";
        digits(key % case.keyspaces, &mut name[4..7]);
        digits(key, &mut name[7..]);
        self.word(&name);
        if !get {
            self.word(&[b'v'; VALUE_BYTES]);
        }
        self.ends.push(self.spans.len() as u32);
    }

    fn word(&mut self, word: &[u8]) {
        self.spans.push(Span { start: self.bytes.len() as u32, length: word.len() as u32 });
        self.bytes.extend_from_slice(word);
    }

    fn requests(&self) -> Requests<'_> {
        Requests {
            client: self.client,
            label: b"127.0.0.1:50000",
            first_sequence: self.first_sequence,
            bytes: &self.bytes,
            spans: &self.spans,
            ends: &self.ends,
        }
    }
}

/// Writes a number over zeros.
fn digits(number: u64, place: &mut [u8]) {
    let mut rest = number;
    for digit in place.iter_mut().rev() {
        if rest == 0 {
            return;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The cluster, its clock, and the nodes that clients talk to.
struct Machines {
    all: Vec<Machine>,
    now: Time,
    /// How far the first node's clock is ahead: it ran faster at the start, so that it leads all.
    ahead_us: u64,
    answered: u64,
    /// Buffers of frames that have been read, as a connection uses its own again.
    spare: Vec<Vec<u8>>,
}

impl Machines {
    fn round(&mut self, reads: &[Vec<Read>]) {
        self.now.monotonic_us += TURN_US;
        self.now.wall_ms = 1_800_000_000_000 + self.now.monotonic_us / 1000;
        for number in 0..self.all.len() {
            let reads = reads.get(number).map_or(&[][..], Vec::as_slice);
            let ahead_us = if number == 0 { self.ahead_us } else { 0 };
            let monotonic_us = self.now.monotonic_us + ahead_us;
            let now = Time { monotonic_us, ..self.now };
            self.all[number].turn(now, reads, &mut self.spare);
            self.answered += std::mem::take(&mut self.all[number].sink.answered);
            for to in 0..self.all.len() {
                if !self.all[number].sink.frames[to].is_empty() {
                    let next = self.spare.pop().unwrap_or_default();
                    let mut frame = std::mem::replace(&mut self.all[number].sink.frames[to], next);
                    frame::finish(&mut frame, 0);
                    self.all[to].arrived.push(frame);
                }
            }
        }
    }

    /// Nobody asks for anything for so long; the first node's clock gains so much in each step.
    fn rest(&mut self, us: u64, gains_us: u64) {
        for _ in 0..us / START_STEP_US {
            self.now.monotonic_us += START_STEP_US;
            self.ahead_us += gains_us;
            self.round(&[]);
        }
    }

    /// Hands the reads over and goes on until all of them are answered.
    fn carry_out(&mut self, reads: &[Vec<Read>]) {
        let commands: usize = reads.iter().flatten().map(|read| read.ends.len()).sum();
        let (before, mut turns) = (self.answered, 0);
        self.round(reads);
        while self.answered - before < commands as u64 {
            self.round(&[]);
            turns += 1;
            assert!(turns < TURNS_MAX, "no answer");
        }
    }

    /// After some turns in which nobody asks for anything, all nodes hold the same.
    fn assert_equal(&mut self) {
        (0..IDLE_ROUNDS).for_each(|_| self.round(&[]));
        let digest = |machine: &Machine| {
            let group = machine.node.groups().next()?.id;
            machine.node.digest(group)
        };
        let digests: Vec<Option<u64>> = self.all.iter().map(digest).collect();
        let equal = digests.iter().all(|digest| digest.is_some() && *digest == digests[0]);
        assert!(equal, "the nodes differ: {digests:?}");
    }
}

/// What is done, and over how many groups it is spread.
struct Case {
    name: String,
    partitions: u16,
    keyspaces: u64,
}

impl Case {
    fn parse(text: &str) -> Case {
        let (name, spread) = text.split_once("-in-").unwrap_or((text, ""));
        let (name, spread) = (name.to_owned(), spread.split_once('-'));
        let (number, what) = spread.map_or((1, ""), |(n, what)| (n.parse().unwrap(), what));
        match what {
            "" => Case { name, partitions: 1, keyspaces: 1 },
            "partitions" => Case { name, partitions: number, keyspaces: 1 },
            "keyspaces" => Case { name, partitions: 1, keyspaces: number.into() },
            other => panic!("no spread over {other}: see the head of this file"),
        }
    }
}

fn cluster(case: &Case) -> (Cluster, Vec<usize>) {
    let partitions = case.partitions;
    let group = |replicas, acks| GroupOptions {
        acks,
        durability: Durability::Interval,
        ..GroupOptions::defaults(replicas)
    };
    let leader_follower = |nodes, acks| {
        let group = group(nodes, acks);
        Model::LeaderFollower(LeaderFollower { home: DatacenterId(0), partitions, group })
    };
    let (nodes, datacenters, model, targets) = match &*case.name {
        "get" | "set" => (1, 1, leader_follower(1, Acks::Async), vec![0]),
        "replicated-get" | "replicated-set" | "proxied-get" | "proxied-set" => {
            (3, 1, leader_follower(3, Acks::SemiSync), vec![])
        }
        "quorum-set" | "quorum-get" => {
            let durability = Durability::Interval;
            let options = Leaderless { w: 2, r: 2, durability, ..Leaderless::defaults(3) };
            (3, 1, Model::Leaderless(options), vec![0, 1, 2])
        }
        "multi-leader-set" => {
            let datacenters = (0..3).map(DatacenterId).collect();
            let (group, conflicts) = (group(1, Acks::Async), Conflicts::LastWriteWins);
            let options = MultiLeader { datacenters, partitions: 1, group, conflicts };
            (3, 3, Model::MultiLeader(options), vec![0])
        }
        other => panic!("no case {other}: see the head of this file"),
    };
    let member = |node: u8| {
        let datacenter = DatacenterId(node % datacenters);
        Member { name: format!("n{node}"), datacenter }
    };
    let keyspace = |number: u64| {
        let name = format!("key:{number:03}");
        let prefix = if case.keyspaces == 1 { Vec::new() } else { name.into_bytes() };
        Keyspace { id: KeyspaceId(1 + number as u32), prefix, model: model.clone() }
    };
    let cluster = Cluster {
        name: "cost".into(),
        secret: 1,
        datacenters: (0..datacenters).map(|number| format!("dc{number}")).collect(),
        members: (0..nodes).map(member).collect(),
        keyspaces: (0..case.keyspaces).map(keyspace).collect(),
    };
    (cluster, targets)
}

/// The clients of each node: of the given ones, or of the leader, or of a follower.
fn clients(
    machines: &Machines,
    targets: &[usize],
    at_leader: bool,
    clients: u64,
) -> Vec<Vec<Read>> {
    let leads = |machine: &Machine| machine.node.groups().any(|group| group.is_serving());
    let asked = machines.all.iter().position(|machine| leads(machine) == at_leader);
    let targets = if targets.is_empty() { vec![asked.unwrap()] } else { targets.to_vec() };
    let mut reads: Vec<Vec<Read>> = machines.all.iter().map(|_| Vec::new()).collect();
    for client in 0..clients {
        reads[targets[client as usize % targets.len()]].push(Read::new(1 + client));
    }
    reads
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: u64| {
        let place = arguments.iter().position(|word| word == name);
        place.map_or(default, |place| arguments[place + 1].parse().expect("a number"))
    };
    let name = arguments.first().map_or("set", String::as_str);
    let case = Case::parse(name);
    let (operations, pipeline) = (option("--operations", 20_000), option("--pipeline", 16));
    let connections = option("--clients", CLIENTS);
    let (cluster, targets) = cluster(&case);
    let now = Time { monotonic_us: 1, wall_ms: 1_800_000_000_000 };
    let nodes = 0..cluster.members.len() as u16;
    let all = nodes.map(|me| Machine::open(&cluster, NodeId(me), now)).collect();
    let mut machines = Machines { all, now, ahead_us: 0, answered: 0, spare: Vec::new() };
    machines.rest(START_US, START_STEP_US / 2);
    let mut reads = clients(&machines, &targets, !name.starts_with("proxied"), connections);
    let mut fill = Read::new(99_999);
    (0..KEYS).for_each(|key| fill.command(&case, false, key));
    let mut first = reads.iter().map(|_| Vec::new()).collect::<Vec<_>>();
    let place = reads.iter().position(|reads| !reads.is_empty()).unwrap();
    first[place].push(fill);
    machines.carry_out(&first);
    machines.rest(REST_US, 0);

    let mut random = Random::new(5);
    let per_round = connections * pipeline;
    let mut refill_and_carry_out = |machines: &mut Machines, rounds: u64| {
        for _ in 0..rounds {
            for read in reads.iter_mut().flatten() {
                read.refill(&case, pipeline as usize, &mut random);
            }
            machines.carry_out(&reads);
        }
    };
    refill_and_carry_out(&mut machines, 20);
    let region = Region::new(ALLOCATOR);
    let rounds = operations.div_ceil(per_round);
    refill_and_carry_out(&mut machines, rounds);
    let change = region.change();
    let done = (rounds * per_round) as f64;
    println!("case {name}, pipeline {pipeline}, {done} operations");
    let count = (change.allocations + change.reallocations) as f64;
    println!("allocations per operation: {:.3}", count / done);
    println!("bytes allocated per operation: {:.1}", change.bytes_allocated as f64 / done);
    if case.name == "multi-leader-set" {
        machines.assert_equal();
    }
}

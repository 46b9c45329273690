//! The clients: one thread each, one command at a time, all in one monotonic clock. What they may
//! do with a key, and which values they write, is the simulator's workload.
//!
//! A key is used for some hundred commands, then the next one takes its place: the search for an
//! order grows with the commands on one key. The first clients stay with one node each, whatever
//! happens to it, so that a leader that is cut off from its followers keeps clients, and they only
//! write: what such a leader has to look at before it answers waits, other writes need not. The
//! other clients turn to another node after an error.

use super::cluster::Target;
use super::connection::Connection;
use replication::random::Random;
use simulator::history::{Action, Operation, Outcome};
use simulator::workload::Kind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The kinds of keys in the order in which keys in use are dealt to them.
const KINDS: [Kind; 8] = [
    Kind::Register,
    Kind::List,
    Kind::Mixed,
    Kind::Counter,
    Kind::Register,
    Kind::List,
    Kind::Mixed,
    Kind::Register,
];
/// Commands on one key of unique SETs: its check is cheap.
const REGISTER_OPERATIONS_MAX: u64 = 1000;
/// Commands on one key of another kind.
const OPERATIONS_MAX: u64 = 80;
/// How long a client thinks between two commands; microseconds.
const THINK_US: (u64, u64) = (0, 4_000);
/// How long a client waits after an error; microseconds.
const AFTER_ERROR_US: (u64, u64) = (5_000, 50_000);
/// How many of a hundred errors make a client turn to another node.
const MOVE_ON_PERCENT: u64 = 50;

/// Microseconds since the start of the run, the same for all threads. Never 0, which is before
/// everything.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// How long it has run.
    pub fn now_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64 + 1
    }
}

/// What all clients of a run share.
pub struct Workload {
    /// The nodes that they ask.
    pub targets: Vec<Target>,
    /// Before the keys of the history stands this on the wire.
    pub key_prefix: String,
    /// How many clients.
    pub clients: usize,
    /// How long they go on.
    pub duration: Duration,
    /// How long they wait for an answer.
    pub timeout: Duration,
    /// The time.
    pub clock: Clock,
    /// Chance.
    pub seed: u64,
    /// For each key in use, how many commands it and those before it have seen.
    keys: Vec<AtomicU64>,
    connections: AtomicU64,
}

impl Workload {
    /// So many keys in use at a time.
    pub fn new(targets: Vec<Target>, key_prefix: String, clients: usize, keys: usize) -> Workload {
        Workload {
            targets,
            key_prefix,
            clients,
            duration: Duration::ZERO,
            timeout: Duration::ZERO,
            clock: Clock::start(),
            seed: 0,
            keys: (0..keys).map(|_| AtomicU64::new(0)).collect(),
            connections: AtomicU64::new(1),
        }
    }

    /// A key's name on the wire.
    pub fn on_the_wire(&self, key: &str) -> String {
        format!("{}{key}", self.key_prefix)
    }

    /// Runs all clients to their end; what they saw, in the order of their calls.
    pub fn run(&self) -> Vec<Operation> {
        let mut all: Vec<Operation> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|number| scope.spawn(move || Client::new(self, number).run()))
                .collect();
            clients.into_iter().flat_map(joined).collect()
        });
        sort(&mut all);
        all
    }

    /// A key to use, and what it is.
    fn key(&self, random: &mut Random) -> (Kind, String) {
        let count = self.keys.len() as u64;
        let slot = random.range(0, count);
        let kind = KINDS[slot as usize % KINDS.len()];
        let most = if kind == Kind::Register { REGISTER_OPERATIONS_MAX } else { OPERATIONS_MAX };
        let used = self.keys.get(slot as usize).map_or(0, |n| n.fetch_add(1, Ordering::Relaxed));
        (kind, kind.key(used / most * count + slot))
    }
}

/// What a thread has come to; its panic is a bug of this program, and goes on here.
pub fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Brings operations into the order of their calls.
pub fn sort(operations: &mut [Operation]) {
    operations.sort_by_key(|operation| (operation.invoked_us, operation.client));
}

/// A connection to one node, opened again when it breaks.
pub struct Session<'a> {
    workload: &'a Workload,
    client: usize,
    place: usize,
    open: Option<(u64, Connection)>,
}

impl<'a> Session<'a> {
    /// A client's connection to a node; nothing is opened yet.
    pub fn new(workload: &'a Workload, client: usize, place: usize) -> Session<'a> {
        Session { workload, client, place, open: None }
    }

    /// Turns to another node, or to the same again.
    fn move_to(&mut self, place: usize) {
        self.place = place;
        self.open = None;
    }

    /// Gives a command; `None` where no connection could be opened, so that nothing was sent.
    pub fn call(&mut self, key: &str, action: Action) -> Option<Operation> {
        let workload = self.workload;
        let target = workload.targets.get(self.place)?;
        let (number, mut connection) = match self.open.take() {
            Some(open) => open,
            None => {
                let number = workload.connections.fetch_add(1, Ordering::Relaxed);
                (number, Connection::open(target.address, workload.timeout).ok()?)
            }
        };
        let words = action.arguments(&workload.on_the_wire(key));
        let mut operation = Operation {
            client: self.client,
            connection: number,
            node: target.node,
            datacenter: target.datacenter,
            key: key.to_owned(),
            action,
            invoked_us: workload.clock.now_us(),
            returned_us: u64::MAX,
            outcome: Outcome::Pending,
            asked: None,
            must_survive: None,
            copies: None,
            keys: 1,
        };
        match connection.call(&words) {
            Ok(reply) => {
                operation.complete(&reply, workload.clock.now_us());
                self.open = Some((number, connection));
            }
            Err(error) => operation.abandon(&broken(&error), workload.clock.now_us()),
        }
        Some(operation)
    }
}

fn broken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            String::from("TIMEOUT no answer in time")
        }
        _ => format!("BROKEN {error}"),
    }
}

struct Client<'a> {
    workload: &'a Workload,
    session: Session<'a>,
    number: usize,
    random: Random,
    values: u64,
}

impl<'a> Client<'a> {
    fn new(workload: &'a Workload, number: usize) -> Client<'a> {
        let place = number % workload.targets.len().max(1);
        let mut seeds = Random::new(workload.seed ^ number as u64);
        Client {
            workload,
            session: Session::new(workload, number, place),
            number,
            random: Random::new(seeds.next_u64()),
            values: 0,
        }
    }

    /// One of the clients that never leave their node; only where others are left to move.
    fn stays(&self) -> bool {
        let nodes = self.workload.targets.len();
        self.number < nodes && nodes < self.workload.clients
    }

    fn run(mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let end_us = self.workload.clock.now_us() + self.workload.duration.as_micros() as u64;
        while self.workload.clock.now_us() < end_us {
            let (key, action) = self.choose();
            let operation = self.session.call(&key, action);
            let done = operation.as_ref().is_some_and(Operation::is_done);
            operations.extend(operation);
            if !done {
                self.after_an_error();
            }
            self.pause(if done { THINK_US } else { AFTER_ERROR_US });
        }
        operations
    }

    fn choose(&mut self) -> (String, Action) {
        self.values += 1;
        loop {
            let (kind, key) = self.workload.key(&mut self.random);
            let value = format!("~c{}.{};", self.number, self.values);
            let action = kind.action(value, &mut self.random);
            let looks = matches!(action, Action::Get | Action::Delete | Action::SetIfAbsent(_));
            if !(looks && self.stays()) {
                return (key, action);
            }
        }
    }

    fn after_an_error(&mut self) {
        if !self.stays() && self.random.chance(MOVE_ON_PERCENT) {
            let nodes = self.workload.targets.len() as u64;
            self.session.move_to(self.random.range(0, nodes) as usize);
        }
    }

    fn pause(&mut self, (least, most): (u64, u64)) {
        std::thread::sleep(Duration::from_micros(self.random.range(least, most)));
    }
}

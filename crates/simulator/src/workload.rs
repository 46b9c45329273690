//! The clients: each gives one command (or a short pipeline on one key), waits for the answer,
//! thinks, and turns to another node after an error or a timeout.

use crate::cluster::{Cluster, Timer};
use crate::history::{Action, History, Operation, Outcome};
use crate::options::{ModelName, Options};
use replication::random::Random;
use replication::{ClientId, DatacenterId, NodeId, Reply};
use std::collections::BTreeMap;

/// How long a client thinks between two commands.
const THINK_US: (u64, u64) = (500, 60_000);
/// How long a client waits for an answer before it gives up.
const PATIENCE_US: (u64, u64) = (400_000, 2_500_000);
/// How many in a hundred clients' steps are a pipeline, where there are pipelines at all.
const PIPELINE_PERCENT: u64 = 20;

/// What may be done with a key: its checker depends on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// SET and GET: the zones, superseded writes, quorum reads.
    Register,
    /// APPEND and GET: what survives is seen in the end.
    List,
    /// SET, GET, DEL, SETNX, GETSET.
    Mixed,
    /// INCRBY and GET.
    Counter,
    /// APPEND or SETNX under a name, sent as often as it takes: once or never.
    Once,
    /// SET, DEL and GET where nobody promises an order: it only has to converge.
    Deleted,
}

impl Kind {
    const ALL: [(Kind, &'static str); 6] = [
        (Kind::Register, "register"),
        (Kind::List, "list"),
        (Kind::Mixed, "mixed"),
        (Kind::Counter, "counter"),
        (Kind::Once, "once"),
        (Kind::Deleted, "deleted"),
    ];

    /// The kind of a key, from its name.
    pub fn of(key: &str) -> Option<Kind> {
        let name = key.split(':').next().unwrap_or("");
        Kind::ALL.iter().find(|(_, word)| *word == name).map(|(kind, _)| *kind)
    }

    fn key(self, number: u64) -> String {
        let word = Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word);
        format!("{word}:{number}")
    }

    fn action(self, value: String, random: &mut Random) -> Action {
        let dice = random.range(0, 100);
        match self {
            Kind::Register if dice < 50 => Action::Set(value),
            Kind::List if dice < 70 => Action::Append(value),
            Kind::Counter if dice < 70 => Action::Increment(random.range(1, 5) as i64),
            Kind::Mixed if dice < 20 => Action::Set(value),
            Kind::Mixed if dice < 35 => Action::Delete,
            Kind::Mixed if dice < 50 => Action::SetIfAbsent(value),
            Kind::Mixed if dice < 65 => Action::GetSet(value),
            Kind::Deleted if dice < 40 => Action::Set(value),
            Kind::Deleted if dice < 70 => Action::Delete,
            _ => Action::Get,
        }
    }
}

/// One client.
#[derive(Clone, Debug)]
struct Client {
    connection: Option<ClientId>,
    node: NodeId,
    /// By their numbers on the connection: places in the history.
    waiting: BTreeMap<u64, usize>,
    /// Only the timer with this number counts.
    timer: u64,
    values: u64,
    /// A client far from other datacenters: it never asks nodes elsewhere.
    stays_in: Option<DatacenterId>,
}

/// All clients of a run and what they have seen.
#[derive(Debug)]
pub struct Workload {
    /// What they have seen.
    pub history: History,
    clients: Vec<Client>,
    owners: BTreeMap<ClientId, usize>,
    left: usize,
    patient: bool,
    pipelines: bool,
    kinds: Vec<(Kind, u64)>,
}

impl Workload {
    /// The clients of a run; they begin when their timers come.
    pub fn new(options: &Options, cluster: &mut Cluster) -> Workload {
        let kinds = match options.model {
            ModelName::LeaderFollower => {
                vec![(Kind::Register, 3), (Kind::List, 2), (Kind::Mixed, 2), (Kind::Counter, 1)]
            }
            ModelName::MultiLeader | ModelName::Leaderless => {
                vec![(Kind::Register, 4), (Kind::Counter, 2), (Kind::Deleted, 2)]
            }
        };
        let mut workload = Workload {
            history: History::default(),
            clients: Vec::new(),
            owners: BTreeMap::new(),
            left: options.operations,
            patient: false,
            pipelines: options.pipelines,
            kinds,
        };
        for _ in 0..options.clients {
            workload.add_client(cluster, options.model == ModelName::MultiLeader);
        }
        workload
    }

    fn add_client(&mut self, cluster: &mut Cluster, stays: bool) {
        let nodes = cluster.servers.len() as u64;
        let node = NodeId(cluster.random.range(0, nodes) as u16);
        let stays_in = stays.then(|| datacenter(cluster, node));
        let number = self.clients.len();
        self.clients.push(Client {
            connection: None,
            node,
            waiting: BTreeMap::new(),
            timer: 0,
            values: 0,
            stays_in,
        });
        let after = cluster.random.range(THINK_US.0, THINK_US.1);
        cluster.set_timer(after, Timer::Client(number, 0));
    }

    /// Whether all commands have been given and none waits for its answer.
    pub fn is_over(&self) -> bool {
        self.left == 0 && self.waiting() == 0
    }

    /// How many commands wait for their answers.
    pub fn waiting(&self) -> usize {
        self.clients.iter().map(|client| client.waiting.len()).sum()
    }

    /// From now on nobody gives a command, and nobody gives up waiting.
    pub fn wind_up(&mut self) {
        self.left = 0;
        self.patient = true;
    }

    /// A client's timer: it gives its next command, or gives up.
    pub fn timer(&mut self, number: usize, timer: u64, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        if client.timer != timer {
            return;
        }
        if !client.waiting.is_empty() {
            if !self.patient {
                if let Some(connection) = client.connection {
                    cluster.hang_up(connection);
                }
                self.abandon(number, "the client gave up", cluster);
                self.think(number, cluster);
            }
            return;
        }
        if self.left > 0 {
            self.call(number, cluster);
        }
    }

    /// A reply has come.
    pub fn reply(
        &mut self,
        connection: ClientId,
        sequence: u64,
        reply: &Reply<'_>,
        cluster: &mut Cluster,
    ) {
        let Some(number) = self.owners.get(&connection).copied() else { return };
        let Some(client) = self.clients.get_mut(number) else { return };
        if client.connection != Some(connection) {
            return;
        }
        let Some(place) = client.waiting.remove(&sequence) else { return };
        let now_us = cluster.now_us;
        if let Some(operation) = self.history.operations.get_mut(place) {
            operation.complete(reply, now_us);
            if let Outcome::Unknown(error) = &operation.outcome {
                let what = if error.starts_with("PARTIAL") { "-PARTIAL" } else { "-UNKNOWN" };
                cluster.observations.count(what);
            }
            cluster.trace.line(now_us, || {
                format!("client {number}: {:?} -> {:?}", operation.action, operation.outcome)
            });
        }
        let idle = client.waiting.is_empty();
        if reply.is_error() && idle && cluster.random.chance(50) {
            cluster.hang_up(connection);
            self.move_on(number, cluster);
        }
        if idle {
            self.think(number, cluster);
        }
    }

    /// A connection broke.
    pub fn broken(&mut self, connection: ClientId, cluster: &mut Cluster) {
        let Some(number) = self.owners.get(&connection).copied() else { return };
        if self.clients.get(number).is_some_and(|client| client.connection == Some(connection)) {
            self.abandon(number, "the connection broke", cluster);
            self.think(number, cluster);
        }
    }

    fn abandon(&mut self, number: usize, why: &str, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        for place in std::mem::take(&mut client.waiting).into_values() {
            if let Some(operation) = self.history.operations.get_mut(place) {
                operation.abandon(why, cluster.now_us);
                cluster.trace.line(cluster.now_us, || {
                    format!("client {number}: {:?} -> {why}", operation.action)
                });
            }
        }
        self.move_on(number, cluster);
    }

    /// The client turns to another node, or to the same again.
    fn move_on(&mut self, number: usize, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        client.connection = None;
        let stays_in = client.stays_in;
        let nodes: Vec<NodeId> = cluster
            .nodes()
            .into_iter()
            .filter(|node| stays_in.is_none_or(|here| datacenter(cluster, *node) == here))
            .collect();
        let place = cluster.random.range(0, nodes.len() as u64) as usize;
        if let Some(node) = nodes.get(place) {
            client.node = *node;
        }
    }

    fn think(&mut self, number: usize, cluster: &mut Cluster) {
        let after = cluster.random.range(THINK_US.0, THINK_US.1);
        self.set_timer(number, after, cluster);
    }

    fn set_timer(&mut self, number: usize, after_us: u64, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        client.timer += 1;
        cluster.set_timer(after_us, Timer::Client(number, client.timer));
    }

    fn call(&mut self, number: usize, cluster: &mut Cluster) {
        let total: u64 = self.kinds.iter().map(|(_, keys)| keys).sum();
        let mut pick = cluster.random.range(0, total);
        let mut chosen = (Kind::Register, 0);
        for (kind, keys) in &self.kinds {
            if pick < *keys {
                chosen = (*kind, pick);
                break;
            }
            pick -= keys;
        }
        let (kind, key) = chosen;
        let pipeline = self.pipelines && cluster.random.chance(PIPELINE_PERCENT);
        // The zones know nothing of connections.
        let most = if pipeline && kind != Kind::Register { cluster.random.range(2, 4) } else { 1 };
        for _ in 0..most.min(self.left as u64) {
            self.left -= 1;
            let Some(client) = self.clients.get_mut(number) else { return };
            client.values += 1;
            let value = format!("~c{number}.{};", client.values);
            let action = kind.action(value, &mut cluster.random);
            self.invoke(number, kind.key(key), action, cluster);
        }
        let patience = cluster.random.range(PATIENCE_US.0, PATIENCE_US.1);
        self.set_timer(number, patience, cluster);
    }

    fn invoke(&mut self, number: usize, key: String, action: Action, cluster: &mut Cluster) {
        let words = action.arguments(&key);
        let Some(client) = self.clients.get_mut(number) else { return };
        let connection = match client.connection {
            Some(connection) => connection,
            None => {
                let connection = cluster.connect(client.node);
                client.connection = Some(connection);
                self.owners.insert(connection, number);
                connection
            }
        };
        let now_us = cluster.now_us;
        let node = client.node;
        cluster.trace.line(now_us, || format!("client {number} @{node}: {}", words.join(" ")));
        let sequence = cluster.request(connection, words);
        client.waiting.insert(sequence, self.history.operations.len());
        self.history.operations.push(Operation {
            client: number,
            connection: connection.0,
            node,
            datacenter: datacenter(cluster, node),
            key,
            action,
            invoked_us: now_us,
            returned_us: u64::MAX,
            outcome: Outcome::Pending,
        });
    }
}

/// Where a node stands.
pub fn datacenter(cluster: &Cluster, node: NodeId) -> DatacenterId {
    cluster.plan().cluster.member(node).map_or(DatacenterId(0), |member| member.datacenter)
}

//! The clients: each gives one command (or a short pipeline on one key), waits for the answer,
//! thinks, and turns to another node after an error or a timeout.

use crate::cluster::{Cluster, Timer};
use crate::copies::Count;
use crate::history::{Action, History, Operation, Outcome};
use crate::options::{ModelName, Options};
use crate::outcomes::{self, Question};
use crate::promises;
use replication::keyspace::Model;
use replication::keyspace::slot::slot_of;
use replication::random::Random;
use replication::token::{Token, cluster_number};
use replication::version::EntryId;
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
    /// SET, DEL and GET where nobody promises an order: it only has to converge.
    Deleted,
}

impl Kind {
    const ALL: [(Kind, &'static str); 5] = [
        (Kind::Register, "register"),
        (Kind::List, "list"),
        (Kind::Mixed, "mixed"),
        (Kind::Counter, "counter"),
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
    /// The same for questions about writes whose outcome was open: places in `held`.
    asking: BTreeMap<u64, usize>,
    /// The tokens that it holds: places in `held`.
    tokens: Vec<usize>,
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
    /// Writes whose outcome was open: the word, what it stands for, and the operation.
    pub held: Vec<(String, Token, usize)>,
    /// The cluster's number in its tokens.
    cluster: u32,
    /// Where clients say for themselves what their writes wait for: the replicas.
    own_acks: Option<u8>,
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
            held: Vec::new(),
            cluster: cluster_number(&options.plan.cluster),
            own_acks: promises::group_of(options)
                .filter(|_| options.ways.own)
                .map(|group| group.replicas),
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
            asking: BTreeMap::new(),
            tokens: Vec::new(),
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
        self.clients.iter().map(|client| client.waiting.len() + client.asking.len()).sum()
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
        if !client.waiting.is_empty() || !client.asking.is_empty() {
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
        if let Some(held) = client.asking.remove(&sequence) {
            self.answered(held, reply, cluster);
            return self.think(number, cluster);
        }
        let Some(place) = client.waiting.remove(&sequence) else { return };
        let now_us = cluster.now_us;
        if let Some(operation) = self.history.operations.get_mut(place) {
            operation.complete(reply, now_us);
            if let Outcome::Unknown(error) = &operation.outcome {
                let what = if error.starts_with("PARTIAL") { "-PARTIAL" } else { "-UNKNOWN" };
                cluster.observations.count(what);
            }
            if operation.is_done() && operation.action.is_write() {
                operation.copies = copies_now(operation, cluster);
            }
            if let Some((word, token)) = outcomes::token_in(operation, self.cluster) {
                client.tokens.push(self.held.len());
                self.held.push((word, token, place));
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

    /// A question about a write was answered.
    pub fn answered(&mut self, held: usize, reply: &Reply<'_>, cluster: &mut Cluster) {
        let Some((_, token, operation)) = self.held.get(held) else { return };
        let answer = outcomes::words_of(reply);
        for what in ["COMMITTED", "LOST", "PENDING"] {
            if answer == what {
                cluster.observations.count(what);
            }
        }
        cluster.trace.line(cluster.now_us, || format!("outcome of {:?}: {answer}", token.id));
        self.history.questions.push(Question { token: *token, operation: *operation, answer });
    }

    /// Sometimes a client asks what has become of a write instead of giving its next command.
    fn ask(&mut self, number: usize, cluster: &mut Cluster) -> bool {
        let Some(client) = self.clients.get_mut(number) else { return false };
        if client.tokens.is_empty() || !cluster.random.chance(outcomes::ASK_PERCENT) {
            return false;
        }
        let place = cluster.random.range(0, client.tokens.len() as u64) as usize;
        let Some(held) = client.tokens.get(place).copied() else { return false };
        let Some((word, ..)) = self.held.get(held) else { return false };
        let words = vec![String::from("TF.OUTCOME"), word.clone()];
        let connection = self.connection(number, cluster);
        let sequence = cluster.request(connection, words);
        if let Some(client) = self.clients.get_mut(number) {
            client.asking.insert(sequence, held);
        }
        let patience = cluster.random.range(PATIENCE_US.0, PATIENCE_US.1);
        self.set_timer(number, patience, cluster);
        true
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
        client.asking.clear();
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
        if self.ask(number, cluster) {
            return;
        }
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
        let own = self.own_acks.filter(|_| action.is_write());
        let asked = own.and_then(|replicas| promises::ask(&mut cluster.random, replicas));
        let words = promises::arguments(&action, &key, asked);
        let connection = self.connection(number, cluster);
        let Some(client) = self.clients.get_mut(number) else { return };
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
            asked,
            copies: None,
        });
    }

    /// The client's connection; a new one where it has none.
    fn connection(&mut self, number: usize, cluster: &mut Cluster) -> ClientId {
        let Some(client) = self.clients.get_mut(number) else { return ClientId(0) };
        *client.connection.get_or_insert_with(|| {
            let connection = cluster.connect(client.node);
            self.owners.insert(connection, number);
            connection
        })
    }
}

/// The entry of a write that was acknowledged just now, and who has it.
fn copies_now(operation: &Operation, cluster: &Cluster) -> Option<(EntryId, Count)> {
    let keyspace = cluster.plan().cluster.keyspaces.first()?;
    let Model::LeaderFollower(model) = &keyspace.model else { return None };
    let written = cluster.observations.written.get(operation.action.value()?)?;
    let dot = written.first()?.dot;
    let id = EntryId { epoch: dot.actor, index: dot.counter };
    let partition = keyspace.partition_of(slot_of(operation.key.as_bytes()));
    Some((id, cluster.observations.copies.of(keyspace.group(partition, model.home), id)))
}

/// Where a node stands.
pub fn datacenter(cluster: &Cluster, node: NodeId) -> DatacenterId {
    cluster.plan().cluster.member(node).map_or(DatacenterId(0), |member| member.datacenter)
}

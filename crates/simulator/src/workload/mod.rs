//! The clients: each gives one command (or a short pipeline on one key), waits for the answer,
//! thinks, and turns to another node after an error or a timeout. `kind.rs` says what is done with
//! which key, `survey.rs` has the commands that mean the whole cluster.

pub mod kind;
mod survey;
mod wait;

pub use kind::Kind;
pub use survey::Survey;

use crate::cluster::{Cluster, Timer};
use crate::history::{Action, Answer, History, Operation, Outcome};
use crate::options::{ModelName, Options};
use crate::outcomes::{self, Question};
use crate::promises;
use replication::asked_token::AnyToken;
use replication::random::Random;
use replication::{ClientId, DatacenterId, NodeId, Reply};
use std::collections::BTreeMap;
use wait::Wait;

/// How long a client thinks between two commands.
const THINK_US: (u64, u64) = (500, 60_000);
/// How long a client waits for an answer before it gives up.
const PATIENCE_US: (u64, u64) = (400_000, 2_500_000);
/// How many in a hundred clients' steps are a pipeline, where there are pipelines at all.
const PIPELINE_PERCENT: u64 = 20;
/// How many in a hundred clients' steps look at all keys.
const SURVEY_PERCENT: u64 = 3;
/// The same for a step of a SCAN that has begun.
const SCAN_ON_PERCENT: u64 = 60;
/// How many in a hundred clients' steps remove all keys, where that happens at all.
const FLUSH_PERCENT: u64 = 2;

/// One client.
#[derive(Clone, Debug)]
struct Client {
    connection: Option<ClientId>,
    node: NodeId,
    /// By their numbers on the connection.
    waiting: BTreeMap<u64, Waiting>,
    /// A SCAN that has begun.
    scan: Option<Survey>,
    /// The tokens that it holds: places in `held`.
    tokens: Vec<usize>,
    /// Its connection's last write, where that was acknowledged: its operation's place, and the
    /// command's number.
    last_write: Option<(usize, u64)>,
    /// Only the timer with this number counts.
    timer: u64,
    values: u64,
    /// A client far from other datacenters: it never asks nodes elsewhere.
    stays_in: Option<DatacenterId>,
}

/// What waits for a reply.
#[derive(Clone, Debug)]
enum Waiting {
    /// Operations, by their places in the history; several where one command concerns several keys.
    Operations(Vec<usize>),
    /// A look at all keys.
    Survey(Survey),
    /// What has become of a write: a place in `held`.
    Question(usize, u64),
    /// How many followers have a write.
    Wait(Wait),
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
    flushes: bool,
    kinds: Vec<(Kind, u64)>,
    /// Where clients wait for followers: the chance that decides when.
    waits: Option<Random>,
    options: Options,
    /// Writes whose outcome was open: the word, what it stands for, and the operation.
    pub held: Vec<(String, AnyToken, usize)>,
}

impl Workload {
    /// The clients of a run; they begin when their timers come.
    pub fn new(options: &Options, cluster: &mut Cluster) -> Workload {
        let mut workload = Workload {
            history: History::default(),
            clients: Vec::new(),
            owners: BTreeMap::new(),
            left: options.operations,
            patient: false,
            pipelines: options.pipelines,
            flushes: options.flushes,
            kinds: Kind::of_seed(options),
            waits: wait::of_seed(options),
            options: options.clone(),
            held: Vec::new(),
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
            scan: None,
            tokens: Vec::new(),
            last_write: None,
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
        let Some(waiting) = client.waiting.remove(&sequence) else { return };
        let now_us = cluster.now_us;
        match waiting {
            Waiting::Operations(places) => {
                for place in places {
                    let Some(operation) = self.history.operations.get_mut(place) else { continue };
                    operation.complete(&operation.share_of(reply), now_us);
                    let request = (connection.0, sequence);
                    operation.copies = outcomes::copies_now(operation, request, cluster);
                    if promises::was_blocked(&self.options, operation) {
                        cluster.observations.count("blocked write released");
                    }
                    if operation.action.is_write() {
                        let last_write = operation.copies.map(|_| (place, sequence));
                        client.last_write = last_write.or(client.last_write);
                    }
                    note(number, operation, cluster);
                    if let Some((word, token)) = outcomes::token_in(operation, cluster) {
                        client.tokens.push(self.held.len());
                        self.held.push((word, token, place));
                    }
                }
            }
            Waiting::Question(held, at_us) => self.answered((held, at_us), reply, cluster),
            Waiting::Wait(wait) => self.waited(&wait, connection, reply, cluster),
            Waiting::Survey(mut survey) => {
                let before = survey.clone();
                let text = || format!("client {number}: {reply:?}");
                cluster.trace.line(now_us, || crate::trace::shorten(text()));
                match survey.take(reply, now_us) {
                    // A broken off SCAN goes on where it was, on whatever node.
                    None => client.scan = before.goes_on().then_some(before),
                    Some(false) => client.scan = Some(survey),
                    Some(true) => {
                        cluster.observations.count(survey.name());
                        self.history.surveys.push(survey);
                    }
                }
            }
        }
        let idle = self.clients.get(number).is_some_and(|client| client.waiting.is_empty());
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
        for waiting in std::mem::take(&mut client.waiting).into_values() {
            match waiting {
                Waiting::Question(..) | Waiting::Wait(_) => {}
                Waiting::Survey(survey) => client.scan = survey.goes_on().then_some(survey),
                Waiting::Operations(places) => {
                    for place in places {
                        let Some(operation) = self.history.operations.get_mut(place) else {
                            continue;
                        };
                        operation.abandon(why, cluster.now_us);
                        cluster.trace.line(cluster.now_us, || {
                            format!("client {number}: {:?} -> {why}", operation.action)
                        });
                    }
                }
            }
        }
        self.move_on(number, cluster);
    }

    /// The client turns to another node, or to the same again.
    fn move_on(&mut self, number: usize, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        (client.connection, client.last_write) = (None, None);
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

    /// One step of a client: a command, a few on one key, or a look at all of them.
    fn call(&mut self, number: usize, cluster: &mut Cluster) {
        let Some(client) = self.clients.get(number) else { return };
        let survey = if client.scan.is_some() { SCAN_ON_PERCENT } else { SURVEY_PERCENT };
        if self.ask(number, cluster) || self.wait(number, cluster) {
            self.left -= 1;
        } else if self.flushes && cluster.random.chance(FLUSH_PERCENT) {
            self.left -= 1;
            let keys = Kind::keys(&self.kinds);
            self.invoke(number, &keys, Action::Clear, cluster);
        } else if cluster.random.chance(survey) {
            self.left -= 1;
            self.survey(number, cluster);
        } else {
            self.act(number, cluster);
        }
        let patience = cluster.random.range(PATIENCE_US.0, PATIENCE_US.1);
        self.set_timer(number, patience, cluster);
    }

    /// A command on one key, or several.
    fn act(&mut self, number: usize, cluster: &mut Cluster) {
        let (kind, key) = Kind::pick(&self.kinds, &mut cluster.random);
        let pipeline = self.pipelines && cluster.random.chance(PIPELINE_PERCENT);
        // The zones know nothing of connections.
        let most = if pipeline && !kind.is_zoned() { cluster.random.range(2, 4) } else { 1 };
        for _ in 0..most.min(self.left as u64) {
            self.left -= 1;
            let Some(client) = self.clients.get_mut(number) else { return };
            client.values += 1;
            let value = format!("~c{number}.{};", client.values);
            let action = kind.action(value, &mut cluster.random);
            let keys = kind.keys_of(&action, key, self.options.deletes_several);
            self.invoke(number, &keys, action, cluster);
        }
    }

    fn survey(&mut self, number: usize, cluster: &mut Cluster) {
        let Some(client) = self.clients.get_mut(number) else { return };
        let scan = client.scan.take();
        let survey = scan.unwrap_or_else(|| Survey::new(cluster.now_us, &mut cluster.random));
        let words = survey.arguments(&mut cluster.random);
        let Some((_, sequence)) = self.send(number, words, cluster) else { return };
        let Some(client) = self.clients.get_mut(number) else { return };
        client.waiting.insert(sequence, Waiting::Survey(survey));
    }

    /// Gives a command; it is one operation on each of the keys.
    fn invoke(&mut self, number: usize, keys: &[String], action: Action, cluster: &mut Cluster) {
        let asked = promises::ask(&self.options, &action, &mut cluster.random);
        let words = promises::with(asked, action.arguments_of(keys));
        let Some((connection, sequence)) = self.send(number, words, cluster) else { return };
        let Some(client) = self.clients.get_mut(number) else { return };
        let first = self.history.operations.len();
        let places = (first..first + keys.len()).collect();
        self.history.requests.insert((connection.0, sequence), first);
        client.waiting.insert(sequence, Waiting::Operations(places));
        if action.is_write() {
            client.last_write = None;
        }
        let node = client.node;
        let taken_apart = action == Action::Delete && keys.len() > 1;
        if taken_apart {
            cluster.observations.count("write taken apart");
        }
        for key in keys {
            self.history.operations.push(Operation {
                client: number,
                connection: connection.0,
                node,
                datacenter: datacenter(cluster, node),
                key: key.clone(),
                action: action.clone(),
                invoked_us: cluster.now_us,
                returned_us: u64::MAX,
                outcome: Outcome::Pending,
                asked,
                must_survive: promises::must_survive(&self.options, asked)
                    .filter(|_| action.is_write()),
                copies: None,
                keys: if taken_apart { keys.len() } else { 1 },
            });
        }
    }

    /// Sometimes a client asks what has become of a write instead of giving its next command.
    fn ask(&mut self, number: usize, cluster: &mut Cluster) -> bool {
        let Some(client) = self.clients.get(number) else { return false };
        if client.tokens.is_empty() || !cluster.random.chance(outcomes::ASK_PERCENT) {
            return false;
        }
        let place = cluster.random.range(0, client.tokens.len() as u64) as usize;
        let held = client.tokens.get(place).copied().unwrap_or(0);
        let Some((word, ..)) = self.held.get(held) else { return false };
        let words = vec![String::from("TF.OUTCOME"), word.clone()];
        let Some((_, sequence)) = self.send(number, words, cluster) else { return false };
        let Some(client) = self.clients.get_mut(number) else { return false };
        client.waiting.insert(sequence, Waiting::Question(held, cluster.now_us));
        true
    }

    /// A question about a write, asked at that moment, was answered.
    pub fn answered(
        &mut self,
        (held, asked_us): (usize, u64),
        reply: &Reply<'_>,
        cluster: &mut Cluster,
    ) {
        if let Some((_, token, operation)) = self.held.get(held) {
            let question = Question::answered((*token, *operation), asked_us, reply, cluster);
            self.history.questions.push(question);
        }
    }

    /// Sends a command on the client's connection; returns that and the command's number on it.
    fn send(
        &mut self,
        number: usize,
        words: Vec<String>,
        cluster: &mut Cluster,
    ) -> Option<(ClientId, u64)> {
        let client = self.clients.get_mut(number)?;
        let connection = match client.connection {
            Some(connection) => connection,
            None => {
                let connection = cluster.connect(client.node);
                client.connection = Some(connection);
                self.owners.insert(connection, number);
                connection
            }
        };
        let (now_us, node) = (cluster.now_us, client.node);
        cluster.trace.line(now_us, || format!("client {number} @{node}: {}", words.join(" ")));
        Some((connection, cluster.request(connection, words)))
    }
}

/// Takes note of what has become of an operation.
fn note(number: usize, operation: &Operation, cluster: &mut Cluster) {
    match &operation.outcome {
        Outcome::Unknown(error) => {
            let what = if error.starts_with("PARTIAL") { "-PARTIAL" } else { "-UNKNOWN" };
            cluster.observations.count(what);
        }
        Outcome::Refused(error) if error.starts_with("CLOCK") => {
            cluster.observations.count("-CLOCK");
        }
        Outcome::Refused(error) if error.starts_with("TRYAGAIN too many writes") => {
            cluster.observations.count("too much uncommitted");
        }
        Outcome::Refused(error) if error.starts_with("TRYAGAIN too many commands") => {
            cluster.observations.count("too many commands wait");
        }
        Outcome::Done(Answer::Ok) if operation.action == Action::Clear => {
            cluster.observations.count("key flushed");
        }
        _ => {}
    }
    cluster.trace.line(cluster.now_us, || {
        format!("client {number}: {:?} -> {:?}", operation.action, operation.outcome)
    });
}

/// Where a node stands.
pub fn datacenter(cluster: &Cluster, node: NodeId) -> DatacenterId {
    cluster.plan().cluster.member(node).map_or(DatacenterId(0), |member| member.datacenter)
}

//! A script is played on a cluster in calm weather; only what it says goes wrong.

use super::keyspace::{model_of, timing_of};
use super::{Expected, ScriptError, Step, parse};
use crate::cluster::{Cluster, Outside, Plan};
use crate::convergence;
use crate::options::cluster_of;
use crate::trace::Trace;
use replication::keyspace::{Keyspace, Model};
use replication::mutant::Mutants;
use replication::{ClientId, Event, KeyspaceId, NodeId, Reply};
use std::collections::{BTreeMap, VecDeque};

/// How long something that is expected may take.
const PATIENCE_US: u64 = 5_000_000;
/// Between two looks at it.
const LOOK_US: u64 = 10_000;
/// The seed of what little chance is left: delays, election timeouts.
const SEED: u64 = 1;

/// Plays a script and returns its trace.
///
/// # Errors
/// The first line that is wrong or did not come true, and the trace up to there.
pub fn play(text: &str) -> Result<Trace, (ScriptError, Trace)> {
    play_with(text, Mutants::default())
}

/// Plays a script on nodes with a planted bug.
///
/// # Errors
/// See [`play`].
pub fn play_with(text: &str, mutants: Mutants) -> Result<Trace, (ScriptError, Trace)> {
    let steps = parse(text).map_err(|error| (error, Trace::default()))?;
    let mut stage = Stage { mutants, ..Stage::default() };
    for (line, step) in steps {
        if let Err(text) = stage.step(&step) {
            let trace = stage.cluster.map(|cluster| cluster.trace).unwrap_or_default();
            return Err((ScriptError { line, text }, trace));
        }
    }
    Ok(stage.cluster.map(|cluster| cluster.trace).unwrap_or_default())
}

/// The state of a script.
#[derive(Default)]
struct Stage {
    mutants: Mutants,
    datacenters: Vec<(String, usize)>,
    timing: Vec<(String, u64)>,
    /// Prefixes with keyspaces of their own.
    prefixes: Vec<(String, Model)>,
    cluster: Option<Cluster>,
    names: BTreeMap<String, NodeId>,
    clients: BTreeMap<String, Client>,
    last_client: String,
    /// The token of the newest error that had one: `$token` in a command.
    token: String,
    /// Up to where events have been expected.
    seen: usize,
}

/// A script's client: one connection to each node that it asks.
#[derive(Default)]
struct Client {
    connections: BTreeMap<NodeId, ClientId>,
    waiting: VecDeque<(ClientId, u64)>,
    answers: BTreeMap<(ClientId, u64), String>,
}

impl Stage {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Cluster(datacenters) => self.datacenters = datacenters.clone(),
            Step::Timing(timing) => self.timing = timing.clone(),
            Step::Prefix(prefix, model, options) => {
                let model = self.model(model, options)?;
                self.prefixes.push((prefix.clone(), model));
            }
            Step::Keyspace(model, options) => self.build(model, options)?,
            Step::Run(duration) => self.pass(*duration)?,
            Step::Name(name, node) => {
                let node = self.one(node)?;
                self.names.insert(name.clone(), node);
            }
            Step::Crash(names) => self.each(names, |cluster, node| cluster.crash(node, true))?,
            Step::Kill(names) => self.each(names, |cluster, node| cluster.crash(node, false))?,
            Step::Stop(names) => self.each(names, |cluster, node| cluster.stop_clean(node))?,
            Step::Pause(names, duration_us) => {
                for node in self.nodes(names)? {
                    self.cluster()?.pause(node, *duration_us);
                }
            }
            Step::Slow(name, factor) => {
                let node = self.one(name)?;
                if let Some(server) = self.cluster()?.servers.get_mut(usize::from(node.0)) {
                    server.disk.slow_factor = *factor;
                }
            }
            Step::Start(names) => self.each(names, |cluster, node| cluster.start(node))?,
            Step::Wipe(name) => {
                let node = self.one(name)?;
                self.cluster()?.wipe(node);
            }
            Step::Partition(left, right) => self.partition(left, right)?,
            Step::Cut(from, to) => {
                let (from, to) = (self.one(from)?, self.one(to)?);
                self.cluster()?.network.set_cut(from, to, true);
            }
            Step::Drift(name, by_ppm) => {
                let node = self.one(name)?;
                let cluster = self.cluster()?;
                let now_us = cluster.now_us;
                if let Some(server) = cluster.servers.get_mut(usize::from(node.0)) {
                    server.clock.set_drift(now_us, *by_ppm);
                }
            }
            Step::Heal => self.cluster()?.network.heal(),
            Step::Clock(name, by_ms) => {
                let node = self.one(name)?;
                if let Some(server) = self.cluster()?.servers.get_mut(usize::from(node.0)) {
                    server.clock.jump(*by_ms);
                }
            }
            Step::Client(name, node, words) => self.call(name, node, words)?,
            Step::Expect(expected) => self.expect(expected)?,
        }
        Ok(())
    }

    fn each(
        &mut self,
        names: &str,
        mut act: impl FnMut(&mut Cluster, NodeId),
    ) -> Result<(), String> {
        for node in self.nodes(names)? {
            act(self.cluster()?, node);
        }
        Ok(())
    }

    fn cluster(&mut self) -> Result<&mut Cluster, String> {
        self.cluster.as_mut().ok_or_else(|| String::from("the keyspace comes first"))
    }

    fn model(&self, model: &str, options: &[(String, String)]) -> Result<Model, String> {
        let nodes = self.datacenters.first().map_or(0, |(_, nodes)| *nodes);
        if nodes == 0 || self.datacenters.iter().any(|(_, count)| *count != nodes) {
            return Err("`cluster eu=3 us=3`, equal in size, comes before the keyspace".into());
        }
        model_of(model, options, nodes, self.datacenters.len())
    }

    fn build(&mut self, model: &str, options: &[(String, String)]) -> Result<(), String> {
        let model = self.model(model, options)?;
        let names: Vec<&str> = self.datacenters.iter().map(|(name, _)| name.as_str()).collect();
        let nodes = self.datacenters.first().map_or(0, |(_, nodes)| *nodes);
        let mut cluster = cluster_of(&names, nodes, model, SEED);
        for (prefix, model) in std::mem::take(&mut self.prefixes) {
            let id = KeyspaceId(cluster.keyspaces.len() as u32 + 1);
            cluster.keyspaces.push(Keyspace { id, prefix: prefix.into_bytes(), model });
        }
        let timing = timing_of(&self.timing)?;
        let plan = Plan { timing, mutants: self.mutants, ..Plan::calm(cluster) };
        self.cluster = Some(Cluster::new(plan, SEED, Trace::new(true)));
        Ok(())
    }

    /// The nodes that a word names.
    fn nodes(&mut self, word: &str) -> Result<Vec<NodeId>, String> {
        if let Some(node) = self.names.get(word) {
            return Ok(vec![*node]);
        }
        let cluster = self.cluster()?;
        if word == "all" {
            return Ok(cluster.nodes());
        }
        if let Some(node) = cluster.node(word) {
            return Ok(vec![node]);
        }
        let leader = cluster.observations.leaderships.last().map(|l| l.node);
        let leader = leader.ok_or_else(|| format!("{word}: there is no node of this name"))?;
        let others: Vec<NodeId> = cluster.nodes().into_iter().filter(|n| *n != leader).collect();
        match (word, word.strip_prefix("follower-").and_then(|n| n.parse::<usize>().ok())) {
            ("leader", _) => Ok(vec![leader]),
            ("others", _) => Ok(others),
            (_, Some(number)) => {
                let node = number.checked_sub(1).and_then(|place| others.get(place));
                node.map(|node| vec![*node]).ok_or_else(|| format!("there is no {word}"))
            }
            _ => Err(format!("{word}: there is no node of this name")),
        }
    }

    fn one(&mut self, word: &str) -> Result<NodeId, String> {
        let nodes = self.nodes(word)?;
        match nodes.as_slice() {
            [node] => Ok(*node),
            _ => Err(format!("{word} is {} nodes", nodes.len())),
        }
    }

    fn partition(&mut self, left: &[String], right: &[String]) -> Result<(), String> {
        let mut sides = [Vec::new(), Vec::new()];
        for (side, words) in sides.iter_mut().zip([left, right]) {
            for word in words {
                side.extend(self.nodes(word)?);
            }
        }
        let [left, right] = sides;
        let cluster = self.cluster()?;
        for a in &left {
            for b in right.iter().filter(|b| *b != a) {
                cluster.cut_between(*a, *b, true);
            }
        }
        Ok(())
    }

    fn call(&mut self, name: &str, node: &str, words: &[String]) -> Result<(), String> {
        let node = self.one(node)?;
        let words: Vec<String> =
            words.iter().map(|word| word.replace("$token", &self.token)).collect();
        let cluster = self.cluster.as_mut().ok_or("the keyspace comes first")?;
        let client = self.clients.entry(name.to_string()).or_default();
        let connection = *client.connections.entry(node).or_insert_with(|| cluster.connect(node));
        cluster.trace.line(cluster.now_us, || format!("{name} @{node}: {}", words.join(" ")));
        let sequence = cluster.request(connection, words);
        client.waiting.push_back((connection, sequence));
        self.last_client = name.to_string();
        Ok(())
    }

    fn pass(&mut self, duration_us: u64) -> Result<(), String> {
        let until_us = self.cluster()?.now_us + duration_us;
        while let Some(outside) = self.cluster()?.next(until_us) {
            match outside {
                Outside::Reply { connection, sequence, reply } => {
                    self.answer(connection, Some(sequence), &text_of(&reply));
                }
                Outside::Broken(connection) => self.answer(connection, None, "BROKEN"),
                Outside::CannotStart(node, why) => {
                    return Err(format!("{node} cannot start: {why}"));
                }
                Outside::Timer(_) | Outside::Stopped(_) => {}
            }
        }
        Ok(())
    }

    /// An answer to one command, or to all of a connection that broke.
    fn answer(&mut self, connection: ClientId, sequence: Option<u64>, text: &str) {
        if let Some(token) = text.split(' ').find_map(|word| word.strip_prefix("token=")) {
            self.token = token.to_string();
        }
        for client in self.clients.values_mut() {
            for (on, number) in &client.waiting {
                if *on == connection && sequence.is_none_or(|wanted| wanted == *number) {
                    client.answers.entry((*on, *number)).or_insert_with(|| text.to_string());
                }
            }
            if sequence.is_none() {
                client.connections.retain(|_, on| *on != connection);
            }
        }
    }

    fn expect(&mut self, expected: &Expected) -> Result<(), String> {
        let limit_us = self.cluster()?.now_us + PATIENCE_US;
        loop {
            match self.look(expected)? {
                Ok(()) => return Ok(()),
                Err(so_far) if self.cluster()?.now_us >= limit_us => return Err(so_far),
                Err(_) => self.pass(LOOK_US)?,
            }
        }
    }

    /// Whether it has come true; the inner error is what there is instead, so far.
    fn look(&mut self, expected: &Expected) -> Result<Result<(), String>, String> {
        match expected {
            Expected::Reply(name, wanted) => {
                let name = name.clone().unwrap_or_else(|| self.last_client.clone());
                let client =
                    self.clients.get_mut(&name).ok_or(format!("{name} has not asked anything"))?;
                let open = *client.waiting.front().ok_or(format!("{name} waits for nothing"))?;
                let Some(answer) = client.answers.remove(&open) else {
                    return Ok(Err(format!("{name} has no answer, expected {wanted}")));
                };
                client.waiting.pop_front();
                let has = wanted.strip_prefix("has ").is_some_and(|part| answer.contains(part));
                if has || is_like(&answer, wanted) {
                    return Ok(Ok(()));
                }
                Err(format!("{name} was answered {answer}, expected {wanted}"))
            }
            Expected::Event(name, node) => {
                let node = node.as_ref().map(|node| self.one(node)).transpose()?;
                let seen = self.seen;
                let events = &self.cluster()?.observations.events;
                let found = events.iter().enumerate().skip(seen).find(|(_, (at, event))| {
                    name_of(event) == *name && node.is_none_or(|node| node == *at)
                });
                let Some(place) = found.map(|(place, _)| place) else {
                    return Ok(Err(format!("there was no event {name}")));
                };
                self.seen = place + 1;
                Ok(Ok(()))
            }
            Expected::NoEvent(name) => {
                let seen = self.seen;
                let events = &self.cluster()?.observations.events;
                match events.iter().skip(seen).find(|(_, event)| name_of(event) == *name) {
                    Some((at, event)) => Err(format!("at {at} there was {event:?}")),
                    None => Ok(Ok(())),
                }
            }
            Expected::Equal => {
                let differences = convergence::differences(self.cluster()?);
                let text = format!("replicas differ: {differences:?}");
                Ok(if differences.is_empty() { Ok(()) } else { Err(text) })
            }
        }
    }
}

/// Whether an answer is what a script expects: the same, or of several words the first; or with
/// `...` for what does not matter.
fn is_like(answer: &str, wanted: &str) -> bool {
    if answer == wanted || answer.split(' ').next() == Some(wanted) {
        return true;
    }
    let mut parts = wanted.split("...");
    let Some(mut rest) = parts.next().and_then(|start| answer.strip_prefix(start)) else {
        return false;
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    wanted.ends_with("...")
}

/// An event's name: the first word of how it prints.
fn name_of(event: &Event) -> String {
    let text = format!("{event:?}");
    text.split([' ', '(', '{']).next().unwrap_or("").to_string()
}

/// A reply as a script writes it.
fn text_of(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Ok => String::from("OK"),
        Reply::Simple(text) | Reply::Error(text) => text.to_string(),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Nil => String::from("nil"),
        Reply::Array(parts) => parts.iter().map(text_of).collect::<Vec<_>>().join(", "),
    }
}

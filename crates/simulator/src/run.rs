//! One seed from its first command to the verdict.
//!
//! *Safety*: clients and faults, for some virtual seconds. *Liveness*: everything is healed (in
//! some seeds a core first, which must go on alone), and all that is pending must finish within a
//! limit. Then a last write must succeed, all replicas must become equal, clients read every key on
//! every node, and the checkers judge.

mod without_the_rest;

use crate::checkers::unheard::{self, Told};
use crate::checkers::{acks, lost_write_report};
use crate::cluster::{Cluster, GARBLED, OVERLOOKED, Outside, Timer};
use crate::convergence;
use crate::faults::Faults;
use crate::history::{Action, Answer, History, Operation, Outcome};
use crate::judge;
use crate::lost_report::{self, Excuses};
use crate::observe::Observations;
use crate::once::{ONCE_KEY, OnceClients};
use crate::options::{ModelName, Options};
use crate::outcomes;
use crate::sometimes;
use crate::trace::Trace;
use crate::workload::{Kind, Workload, datacenter};
use replication::leader_follower::degrade_ledger::Interval;
use replication::mutant::Mutants;
use replication::{Node, NodeId, Reply};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How long anything that is pending may take once everything is healed.
const LIVENESS_US: u64 = 20_000_000;
/// How long clients are quiet before the final reads, so that what is on its way arrives.
const QUIET_US: u64 = 300_000;
/// Between two looks at something that is waited for.
const LOOK_US: u64 = 50_000;
/// After how long a final command without an answer is given again.
const FINAL_PATIENCE_US: u64 = 3_000_000;
/// A run that does more is wedged: nodes that talk for ever.
const STEPS_MAX: u64 = 3_000_000;
/// The client number of final commands, plus the node's number.
const FINAL_CLIENT: usize = 1000;
/// The key of the last write: nobody else uses it.
const LAST_KEY: &str = "last:0";

/// What a run has come to.
#[derive(Debug)]
pub struct Outcomes {
    /// The seed, spelt out.
    pub options: Options,
    /// What went wrong, if anything.
    pub failure: Option<String>,
    /// How often each interesting thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// What clients saw.
    pub history: History,
    /// The story, if it was asked for.
    pub trace: Trace,
    /// How many things happened.
    pub steps: u64,
    /// How much virtual time has passed.
    pub simulated_us: u64,
}

impl Outcomes {
    /// The command that plays the same run again.
    pub fn replay(&self) -> String {
        let also: String = self.options.also.iter().map(|name| format!(" --with {name}")).collect();
        format!("cargo sim {} --model {}{also} --trace", self.options.seed, self.options.model)
    }
}

/// Plays a seed.
pub fn run(seed: u64, model: ModelName, mutants: Mutants, trace: bool) -> Outcomes {
    play(Options::of(seed, model, mutants), trace)
}

/// Plays a seed that is spelt out.
pub fn play(options: Options, trace: bool) -> Outcomes {
    let (plan, terms) = (options.plan.clone(), options.terms);
    let mut cluster = Cluster::with_terms(plan, options.seed, Trace::new(trace), terms);
    for what in options.kinds() {
        cluster.observations.count(what);
    }
    let mut history = History::default();
    // A panic in the core is a finding like any other, and must not hide the seed.
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut play = Play::new(&options, &mut cluster);
        let failure = play.all().err();
        (std::mem::take(&mut play.workload.history), failure)
    }));
    let failure = match played {
        Ok((seen, failure)) => {
            history = seen;
            failure
        }
        Err(panic) => Some(format!("panic: {}", panic_text(panic.as_ref()))),
    };
    if let Some(failure) = &failure {
        cluster.trace.line(cluster.now_us, || format!("FAILED: {failure}"));
    }
    let Observations { counts, .. } = cluster.observations;
    let (steps, simulated_us) = (cluster.steps, cluster.now_us);
    Outcomes { options, failure, counts, history, trace: cluster.trace, steps, simulated_us }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| String::from("without a text"))
}

/// Whether two nodes show the same: but what fades may have gone in between.
fn agree(one: &judge::End, other: &judge::End) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            let fades = Kind::of(one.0) == Some(Kind::Fading);
            one == other || (fades && one.0 == other.0 && (one.1.is_none() || other.1.is_none()))
        })
}

/// A run while it is played.
struct Play<'a> {
    options: &'a Options,
    cluster: &'a mut Cluster,
    workload: Workload,
    once: OnceClients,
    faults: Faults,
}

impl<'a> Play<'a> {
    fn new(options: &'a Options, cluster: &'a mut Cluster) -> Play<'a> {
        let workload = Workload::new(options, cluster);
        let faults = Faults::new(options.families, cluster);
        let once = OnceClients::new(options, cluster);
        Play { options, cluster, workload, once, faults }
    }

    fn all(&mut self) -> Result<(), String> {
        let end_us = self.options.safety_us;
        while self.cluster.now_us < end_us && !(self.workload.is_over() && self.once.is_over()) {
            let until = end_us.min(self.cluster.now_us + LOOK_US);
            self.pass(until)?;
            self.check_unheard(None)?;
        }
        let rest = self.faults.heal_core(self.options, self.cluster);
        self.workload.wind_up();
        self.once.wind_up();
        if !rest.is_empty() {
            self.go_on_without(&rest)?;
            self.faults.heal(self.cluster);
        }
        self.wait_for("every command to be answered", |play| play.workload.waiting() == 0)?;
        self.wait_for("every call to be settled", |play| play.once.waiting() == 0)?;
        self.last_write()?;
        self.final_outcomes()?;
        // A repeated message may come long after the first: what it brings is to be read, too.
        let late_us = self.cluster.plan().weather.repeat_late_us;
        self.pass(self.cluster.now_us + QUIET_US + late_us)?;
        let end = if self.options.model == ModelName::Leaderless {
            let end = self.final_reads(NodeId(0), true)?;
            self.pass(self.cluster.now_us + QUIET_US)?;
            self.wait_for_convergence()?;
            end
        } else {
            self.wait_for_convergence()?;
            self.final_reads(NodeId(0), false)?
        };
        for node in self.cluster.nodes().into_iter().skip(1) {
            let other = self.final_reads(node, false)?;
            if !agree(&other, &end) {
                return Err(format!("{node} ends with {other:?}, n0 with {end:?}"));
            }
        }
        if self.options.model != ModelName::Leaderless {
            self.check_lost_writes()?;
        }
        self.check_ledgers()?;
        let survives =
            self.options.quorum_of(ONCE_KEY).is_some_and(|quorum| quorum.acknowledged_survives());
        if let Some(text) = self.once.contradiction().filter(|_| survives) {
            return Err(text);
        }
        judge::judge(self.options, &self.workload.history, &self.cluster.observations, &end)?;
        self.count_orders(&end);
        Ok(())
    }

    fn count_orders(&mut self, end: &judge::End) {
        if self.options.model != ModelName::LeaderFollower {
            return;
        }
        let (history, seen) = (&self.workload.history, &mut self.cluster.observations);
        for found in judge::orders_found(self.options, history, seen, end) {
            seen.count(sometimes::ORDERS_SEARCHED);
            if !found {
                seen.count(sometimes::ORDERS_UNJUDGED);
            }
        }
    }

    /// What is reported as lost, on every node's word, against the truth.
    fn check_lost_writes(&mut self) -> Result<(), String> {
        let excuses = Excuses::of(self.cluster);
        for node in self.cluster.nodes() {
            let limit_us = self.cluster.now_us + LIVENESS_US;
            let (reports, told) = loop {
                let connection = self.cluster.connect(node);
                let words = ["TF.LOST", "LIST"].map(String::from).to_vec();
                let sequence = self.cluster.request(connection, words);
                let reply = self.reply_of(connection, sequence)?;
                let list = |reply| lost_report::reports(reply, &excuses);
                let reports = reply.as_ref().map(list);
                let reports = reports.transpose()?.flatten();
                match reports {
                    Some(reports) => break reports,
                    None if self.cluster.now_us >= limit_us => {
                        return Err(format!("liveness: TF.LOST LIST on {node}: {reply:?}"));
                    }
                    None => self.pass(self.cluster.now_us + LOOK_US)?,
                }
            };
            let truth = lost_report::truth(self.cluster);
            lost_write_report::check(&self.workload.history, &truth, &reports, &told)?;
            self.check_unheard(Some(&told))?;
        }
        Ok(())
    }

    /// What is told of leaders that were not heard out, by LIST or else by their successors,
    /// against the truth.
    fn check_unheard(&self, listed: Option<&[Told]>) -> Result<(), String> {
        let truth = lost_report::truth(self.cluster);
        if truth.possible_loss {
            return Ok(());
        }
        let ends = lost_report::ends(self.cluster, &self.workload.history, &truth);
        let told = listed.map_or_else(|| lost_report::told(self.cluster), <[Told]>::to_vec);
        unheard::check(&ends, &told)
    }

    /// Acks that were lowered are as declared again, and the ledger is right, on every node.
    fn check_ledgers(&mut self) -> Result<(), String> {
        if !self.options.ways.degrade {
            return Ok(());
        }
        self.wait_for("the degrade ledgers to be closed and equal", |play| {
            let mut all = play.ledgers().into_iter();
            let first = all.next().unwrap_or_default();
            first.iter().all(|interval| interval.closed_ms.is_some()) && all.all(|l| l == first)
        })?;
        let Observations { below, disasters, .. } = &self.cluster.observations;
        if !disasters.is_empty() {
            // The ledger is as lost as what it speaks of.
            return Ok(());
        }
        acks::check_ledger(&self.ledgers().into_iter().next().unwrap_or_default(), below)
    }

    /// The degrade ledger of the only group, as each node has it.
    fn ledgers(&self) -> Vec<Vec<Interval>> {
        let nodes = self.cluster.servers.iter().filter_map(|server| server.node());
        let ledger = |node: &Node| {
            let groups = node.groups().flat_map(|group| group.degraded.intervals().copied());
            groups.collect()
        };
        nodes.map(ledger).collect()
    }

    /// Asks what has become of every write whose outcome was open: now nothing is open any more.
    fn final_outcomes(&mut self) -> Result<(), String> {
        let limit_us = self.cluster.now_us + LIVENESS_US;
        for (place, (word, token, _)) in self.workload.held.clone().into_iter().enumerate() {
            let node = NodeId((place % self.cluster.servers.len()) as u16);
            loop {
                let (connection, asked_us) = (self.cluster.connect(node), self.cluster.now_us);
                let words = vec![String::from("TF.OUTCOME"), word.clone()];
                let sequence = self.cluster.request(connection, words);
                let reply = self.reply_of(connection, sequence)?;
                self.cluster.hang_up(connection);
                if let Some(reply) = reply {
                    self.workload.answered((place, asked_us), &reply, self.cluster);
                    if outcomes::is_final(&outcomes::words_of(&reply), &token, self.cluster) {
                        break;
                    }
                }
                if self.cluster.now_us >= limit_us {
                    return Err(format!("liveness: the outcome of {token:?} stays open"));
                }
                self.pass(self.cluster.now_us + LOOK_US)?;
            }
        }
        Ok(())
    }

    /// Lets time pass, and takes care of whatever concerns clients and faults.
    fn pass(&mut self, until_us: u64) -> Result<(), String> {
        while let Some(outside) = self.cluster.next(until_us) {
            self.take(outside)?;
        }
        if self.cluster.observations.counts.contains_key(GARBLED) {
            return Err(String::from("a message is another one after encoding and decoding"));
        }
        if self.cluster.observations.counts.contains_key(OVERLOOKED) {
            return Err(String::from(
                "a log that is damaged where it had been synced passes for whole",
            ));
        }
        if let Some(text) = &self.cluster.observations.over_bounds {
            return Err(text.clone());
        }
        if self.cluster.steps > STEPS_MAX {
            return Err(format!("wedged: more than {STEPS_MAX} steps"));
        }
        Ok(())
    }

    fn take(&mut self, outside: Outside) -> Result<(), String> {
        match outside {
            Outside::Timer(Timer::Client(client, number)) => {
                self.workload.timer(client, number, self.cluster);
            }
            Outside::Timer(Timer::Fault(number)) => self.faults.timer(number, self.cluster),
            Outside::Timer(Timer::NewLeader(node)) => {
                self.faults.on_new_leader(node, self.cluster);
            }
            Outside::Timer(Timer::OnceClient(client)) => {
                self.once.client_timer(client, self.cluster, &mut self.workload.history);
            }
            Outside::Timer(Timer::OnceCall(call, number)) => {
                self.once.call_timer(call, number, self.cluster);
            }
            Outside::Timer(Timer::RareEvent(node)) => {
                self.faults.on_rare_event(node, self.cluster);
            }
            Outside::Timer(Timer::Renamed(node)) => self.faults.on_renamed(node, self.cluster),
            Outside::Timer(Timer::Phase(_)) => {}
            Outside::Reply { connection, sequence, reply } => {
                self.workload.reply(connection, sequence, &reply, self.cluster);
                let history = &mut self.workload.history;
                self.once.answer(connection, Some(&reply), self.cluster, history);
            }
            Outside::Broken(connection) => {
                self.workload.broken(connection, self.cluster);
                let history = &mut self.workload.history;
                self.once.answer(connection, None, self.cluster, history);
            }
            Outside::Stopped(node) => self.faults.on_stopped(node, self.cluster),
            Outside::CannotStart(node, why) => {
                return self.faults.on_cannot_start(node, why, self.cluster);
            }
        }
        Ok(())
    }

    fn wait_for(&mut self, what: &str, done: impl Fn(&Play<'_>) -> bool) -> Result<(), String> {
        let limit_us = self.cluster.now_us + LIVENESS_US;
        while !done(self) {
            if self.cluster.now_us >= limit_us {
                return Err(format!("liveness: waited {LIVENESS_US} us for {what}"));
            }
            self.pass(self.cluster.now_us + LOOK_US)?;
        }
        Ok(())
    }

    fn wait_for_convergence(&mut self) -> Result<(), String> {
        let waited =
            self.wait_for("all replicas to be equal", |play| convergence::all_equal(play.cluster));
        waited.map_err(|text| format!("{text}: {}", convergence::describe(self.cluster)))?;
        let waited =
            self.wait_for("calls", |play| convergence::once_differences(play.cluster).is_empty());
        waited.map_err(|_| {
            let differences = convergence::once_differences(self.cluster);
            format!("replicas remember different calls: {differences:?}")
        })
    }

    /// After everything is healed, a write must succeed on every node's word.
    fn last_write(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            let value = format!("~last{};", node.0);
            self.insist(node, LAST_KEY, Action::Set(value), false)?;
        }
        Ok(())
    }

    /// Reads every key on one node, `from_all` replicas if that is asked for.
    fn final_reads(
        &mut self,
        node: NodeId,
        from_all: bool,
    ) -> Result<BTreeMap<String, Option<String>>, String> {
        let keys: Vec<String> =
            self.workload.history.keys().into_iter().map(String::from).collect();
        let mut end = BTreeMap::new();
        for key in keys {
            let answer = self.insist(node, &key, Action::Get, from_all)?;
            let Answer::Value(value) = answer else {
                return Err(format!("GET {key} on {node} answered {answer:?}"));
            };
            end.insert(key, value);
        }
        Ok(end)
    }

    /// Gives a command until it is carried out.
    fn insist(
        &mut self,
        node: NodeId,
        key: &str,
        action: Action,
        from_all: bool,
    ) -> Result<Answer, String> {
        let limit_us = self.cluster.now_us + LIVENESS_US;
        let mut last = String::from("no answer");
        while self.cluster.now_us < limit_us {
            match self.attempt(node, key, &action, from_all)? {
                Outcome::Done(answer) => return Ok(answer),
                Outcome::Refused(why) | Outcome::Unknown(why) => last = why,
                Outcome::Pending => {}
            }
            self.pass(self.cluster.now_us + LOOK_US)?;
        }
        Err(format!("liveness: {action:?} of {key} on {node} does not succeed: {last}"))
    }

    /// Gives a command once, and waits for its reply.
    fn attempt(
        &mut self,
        node: NodeId,
        key: &str,
        action: &Action,
        from_all: bool,
    ) -> Result<Outcome, String> {
        let mut words = action.arguments(key);
        if let (true, Some((n, _, _))) = (from_all, self.options.leaderless()) {
            words.splice(0..0, ["TF.WITH", "R", &n.to_string(), "--"].map(String::from));
        }
        let connection = self.cluster.connect(node);
        let invoked_us = self.cluster.now_us;
        self.cluster.trace.line(invoked_us, || format!("final @{node}: {}", words.join(" ")));
        let sequence = self.cluster.request(connection, words);
        let mut operation = Operation {
            client: FINAL_CLIENT + usize::from(node.0),
            connection: connection.0,
            node,
            datacenter: datacenter(self.cluster, node),
            key: key.to_string(),
            action: action.clone(),
            invoked_us,
            returned_us: u64::MAX,
            outcome: Outcome::Pending,
            asked: None,
            must_survive: None,
            copies: None,
            keys: 1,
        };
        let reply = self.reply_of(connection, sequence)?;
        let now_us = self.cluster.now_us;
        match reply {
            Some(reply) => operation.complete(&reply, now_us),
            None => operation.abandon("no answer", now_us),
        }
        let outcome = operation.outcome.clone();
        self.cluster.trace.line(now_us, || format!("final @{node}: {outcome:?}"));
        let history = &mut self.workload.history;
        history.requests.insert((connection.0, sequence), history.operations.len());
        history.operations.push(operation);
        self.cluster.hang_up(connection);
        Ok(outcome)
    }

    fn reply_of(
        &mut self,
        wanted: replication::ClientId,
        number: u64,
    ) -> Result<Option<Reply<'static>>, String> {
        let until_us = self.cluster.now_us + FINAL_PATIENCE_US;
        while let Some(outside) = self.cluster.next(until_us) {
            match outside {
                Outside::Reply { connection, sequence, reply }
                    if connection == wanted && sequence == number =>
                {
                    return Ok(Some(reply));
                }
                Outside::Broken(connection) if connection == wanted => return Ok(None),
                other => self.take(other)?,
            }
        }
        Ok(None)
    }
}

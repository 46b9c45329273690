//! Clients that send a command under its name (`TF.ONCE`) again and again until they know what has
//! become of it: through any node, at the same time through two, and again long after they know.
//! However often it is sent, it is one operation of the history, which takes effect once.

use crate::clock::WALL_START_MS;
use crate::cluster::{Cluster, Timer};
use crate::history::{Action, Answer, History, Operation, Outcome};
use crate::options::{ModelName, Options};
use crate::outcomes;
use crate::promises;
use crate::workload::datacenter;
use replication::keyspace::{AckLevel, Acks};
use replication::random::Random;
use replication::{ClientId, NodeId, Reply};
use std::collections::BTreeMap;

/// The first of the keys that they append to.
pub const ONCE_KEY: &str = "once:0";
/// How many there are: so many that the checker of a key's order finds one among few commands.
const KEYS: u64 = 8;
/// One seed in so many has such clients.
const ONCE_SEEDS: u64 = 2;
/// How many clients there are.
const CLIENTS: u64 = 3;
/// How many commands each gives.
const CALLS: u64 = 16;
/// From one command to the next.
const THINK_US: (u64, u64) = (5_000, 120_000);
/// How long an answer is waited for before the command is sent again: short, so that retries meet
/// first attempts that are still under way.
const PATIENCE_US: (u64, u64) = (20_000, 700_000);
/// From an answer that leaves the outcome open to the next attempt.
const AGAIN_US: (u64, u64) = (1_000, 60_000);
/// How many in a hundred commands are sent twice at once.
const TWICE_PERCENT: u64 = 25;
/// How many in a hundred commands are sent once more long after they were answered.
const LATE_PERCENT: u64 = 30;
/// How many in a hundred attempts ask for their acks by name, where that makes a difference.
const NAMED_PERCENT: u64 = 30;
/// How long after.
const LATE_US: (u64, u64) = (100_000, 2_000_000);
/// How many in a hundred commands begin a new session.
const NEW_SESSION_PERCENT: u64 = 8;
/// The client number of the first of them.
const FIRST_CLIENT: usize = 500;

/// The words in front of the command: TF.ONCE, the session, the number and a dash.
const ONCE_WORDS: usize = 4;

/// A command under its name.
#[derive(Debug)]
struct Call {
    words: Vec<String>,
    /// Its place in the history.
    place: usize,
    /// Its attempts that are not answered.
    open: Vec<ClientId>,
    /// Nothing more is to be learnt about it.
    settled: bool,
    /// Whether it is to be sent once more after it is settled.
    late: bool,
    timer: u64,
}

/// One client.
#[derive(Debug)]
struct Client {
    session: String,
    sequence: u64,
    left: u64,
}

/// A call on its way.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    call: usize,
    asked: Option<(Acks, AckLevel)>,
}

/// All such clients of a run.
#[derive(Debug)]
pub struct OnceClients {
    random: Random,
    clients: Vec<Client>,
    calls: Vec<Call>,
    /// The calls that attempts belong to.
    attempts: BTreeMap<ClientId, Attempt>,
    /// What is declared, where those who ask for that by name get it and others may not.
    declared: Option<(Acks, AckLevel)>,
    sessions: u64,
    patient: bool,
    /// As for any write of the seed.
    must_survive: Option<bool>,
    /// Two answers to one call that differ.
    contradiction: Option<String>,
}

impl OnceClients {
    /// The clients of a run, where its seed has any.
    pub fn new(options: &Options, cluster: &mut Cluster) -> OnceClients {
        // Nothing that only grows, where everything may be removed.
        let some = options.model == ModelName::LeaderFollower
            && !options.flushes
            && !options.seed.is_multiple_of(ONCE_SEEDS);
        let mut clients = OnceClients {
            random: Random::new(options.seed ^ 0x6f6e_6365),
            clients: Vec::new(),
            calls: Vec::new(),
            attempts: BTreeMap::new(),
            declared: promises::declared_by_name(options),
            sessions: 0,
            patient: false,
            must_survive: promises::must_survive(options, None),
            contradiction: None,
        };
        for number in 0..if some { CLIENTS } else { 0 } {
            let (session, sequence) = (String::new(), 0);
            clients.clients.push(Client { session, sequence, left: CALLS });
            let after_us = clients.random.range(THINK_US.0, THINK_US.1);
            cluster.set_timer(after_us, Timer::OnceClient(number as usize));
        }
        clients
    }

    /// Whether every call is settled and no more will be made.
    pub fn is_over(&self) -> bool {
        self.waiting() == 0 && self.clients.iter().all(|client| client.left == 0)
    }

    /// How many calls are not settled.
    pub fn waiting(&self) -> usize {
        self.calls.iter().filter(|call| !call.settled || !call.open.is_empty()).count()
    }

    /// From now on there are no new calls; those that are open are sent again until they are
    /// settled.
    pub fn wind_up(&mut self) {
        self.clients.iter_mut().for_each(|client| client.left = 0);
        self.patient = true;
    }

    /// What was wrong with the answers, where acknowledged writes survive.
    pub fn contradiction(&self) -> Option<String> {
        self.contradiction.clone().filter(|_| self.must_survive != Some(false))
    }

    /// A client makes its next call.
    pub fn client_timer(&mut self, number: usize, cluster: &mut Cluster, history: &mut History) {
        let now_ms = WALL_START_MS + cluster.now_us / 1000;
        let new_session = self.random.chance(NEW_SESSION_PERCENT);
        let Some(client) = self.clients.get_mut(number).filter(|client| client.left > 0) else {
            return;
        };
        client.left -= 1;
        if client.session.is_empty() || new_session {
            self.sessions += 1;
            client.session = format!("{now_ms}-c{number}.{}", self.sessions);
            client.sequence = 0;
        }
        client.sequence += 1;
        let value = format!("~o{number}.{};", client.left);
        let (key, action) = match self.random.range(0, 10) {
            0..7 => (format!("once:{}", self.random.range(0, KEYS)), Action::Append(value)),
            _ => (format!("once:nx{}", self.calls.len() / 3), Action::SetIfAbsent(value)),
        };
        let mut words: Vec<String> =
            ["TF.ONCE", &client.session, &client.sequence.to_string(), "--"].map(Into::into).into();
        words.extend(action.arguments(&key));
        let node = NodeId(0);
        history.operations.push(Operation {
            client: FIRST_CLIENT + number,
            connection: u64::MAX - self.calls.len() as u64,
            node,
            datacenter: datacenter(cluster, node),
            key,
            action,
            invoked_us: cluster.now_us,
            returned_us: u64::MAX,
            outcome: Outcome::Pending,
            asked: None,
            must_survive: self.must_survive,
            copies: None,
            keys: 1,
        });
        let call = self.calls.len();
        let late = self.random.chance(LATE_PERCENT);
        let place = history.operations.len() - 1;
        self.calls.push(Call { words, place, open: Vec::new(), settled: false, late, timer: 0 });
        self.attempt(call, cluster);
        if self.random.chance(TWICE_PERCENT) {
            self.attempt(call, cluster);
        }
        let after_us = self.random.range(THINK_US.0, THINK_US.1);
        cluster.set_timer(after_us, Timer::OnceClient(number));
    }

    /// A call's timer: it is sent again where its outcome is open, or once more although it is
    /// not.
    pub fn call_timer(&mut self, number: usize, timer: u64, cluster: &mut Cluster) {
        let Some(call) = self.calls.get_mut(number).filter(|call| call.timer == timer) else {
            return;
        };
        if call.settled && !std::mem::take(&mut call.late) {
            for connection in std::mem::take(&mut call.open) {
                cluster.hang_up(connection);
            }
            return;
        }
        if call.settled && self.patient {
            return;
        }
        self.attempt(number, cluster);
    }

    fn attempt(&mut self, number: usize, cluster: &mut Cluster) {
        let node = NodeId(self.random.range(0, cluster.servers.len() as u64) as u16);
        let Some(call) = self.calls.get_mut(number) else { return };
        let connection = cluster.connect(node);
        let asked = self.declared.filter(|_| self.random.chance(NAMED_PERCENT));
        let (once, command) = call.words.split_at(ONCE_WORDS);
        let words = [once, &promises::with(asked, command.to_vec())].concat();
        cluster
            .trace
            .line(cluster.now_us, || format!("call {number} @{node}: {}", words.join(" ")));
        cluster.request(connection, words);
        call.open.push(connection);
        self.attempts.insert(connection, Attempt { call: number, asked });
        self.set_timer(number, PATIENCE_US, cluster);
    }

    fn set_timer(&mut self, number: usize, after: (u64, u64), cluster: &mut Cluster) {
        let after_us = self.random.range(after.0, after.1);
        if let Some(call) = self.calls.get_mut(number) {
            call.timer += 1;
            cluster.set_timer(after_us, Timer::OnceCall(number, call.timer));
        }
    }

    /// An attempt has its reply, or (`None`) its connection broke.
    pub fn answer(
        &mut self,
        connection: ClientId,
        reply: Option<&Reply<'_>>,
        cluster: &mut Cluster,
        history: &mut History,
    ) {
        let Some(Attempt { call: number, asked }) = self.attempts.remove(&connection) else {
            return;
        };
        let Some(call) = self.calls.get_mut(number) else { return };
        call.open.retain(|open| *open != connection);
        let Some(operation) = history.operations.get_mut(call.place) else { return };
        let mut attempt = Operation { asked, ..operation.clone() };
        match reply {
            Some(reply) => attempt.complete(reply, cluster.now_us),
            None => attempt.abandon("the connection broke", cluster.now_us),
        }
        cluster.trace.line(cluster.now_us, || format!("call {number}: {:?}", attempt.outcome));
        let first = !call.settled;
        if !operation.is_done() && attempt.is_done() {
            attempt.copies = outcomes::copies_of_value(&attempt, cluster);
        }
        // What was lost with a majority of the disks is carried out like any other.
        let told_us = operation.returned_us;
        let may_be_lost = cluster.observations.disasters.iter().any(|at_us| *at_us >= told_us);
        match (&operation.outcome, &attempt.outcome) {
            (Outcome::Done(before), Outcome::Done(now)) if before != now && !may_be_lost => {
                let text = format!("call {:?} was answered {before:?}, then {now:?}", call.words);
                self.contradiction.get_or_insert(text);
            }
            (Outcome::Done(_), _) => {}
            (_, Outcome::Done(answer)) => {
                call.settled = true;
                if first && matches!(answer, Answer::Number(_)) {
                    cluster.observations.count("call settled");
                }
                *operation = attempt;
            }
            // Once it may have happened, only an answer can tell.
            (Outcome::Unknown(_), _) => {}
            (_, Outcome::Unknown(_)) => *operation = attempt,
            (_, outcome) => operation.outcome = outcome.clone(),
        }
        let hopeless = reply.is_some_and(
            |reply| matches!(reply, Reply::Error(text) if text.contains("not executed now")),
        );
        if hopeless && first && !call.settled {
            cluster.observations.count("retry too old to tell");
            call.settled = true;
            operation.returned_us = cluster.now_us;
        }
        match (call.settled, call.late && first) {
            (true, true) => self.set_timer(number, LATE_US, cluster),
            (true, false) => {}
            (false, _) => self.set_timer(number, AGAIN_US, cluster),
        }
    }
}

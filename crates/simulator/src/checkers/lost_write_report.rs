//! The lost-write report against the truth: what is reported is lost, what is lost and was
//! acknowledged is reported, and where nobody crashed the report says exactly what clients saw.

use super::Verdict;
use super::unheard::Told;
use crate::history::{Action, History, Operation};
use replication::keyspace::AckLevel;
use replication::version::EntryId;
use replication::{GroupId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// An entry's name in the whole cluster.
pub type Name = (GroupId, EntryId);

/// A client's command: its connection, and its number there.
pub type Request = (u64, u64);

/// The command of a write of which nothing tells any more who asked for it.
pub const UNKNOWN: Request = (u64::MAX, u64::MAX);

/// A report, as `TF.LOST LIST` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The entry.
    pub name: Name,
    /// Whose it was.
    pub request: Request,
    /// `acknowledged`, `not acknowledged` or `maybe`.
    pub status: String,
}

/// The truth, as the harness has seen it.
#[derive(Clone, Debug)]
pub struct Truth {
    /// When a copy counts in the keyspace, where the command does not say so itself.
    pub level: AckLevel,
    /// All entries that a leader has appended for a client.
    pub entries: BTreeMap<Name, Request>,
    /// Those of them that are in the log in the end.
    pub survivors: BTreeSet<Name>,
    /// Commands whose answer, no error, was let go; it may not have reached the client.
    pub answered: BTreeSet<Request>,
    /// Who led an epoch, and since when.
    pub leaders: BTreeMap<(GroupId, u64), (NodeId, u64)>,
    /// When a node's process ended and was not asked to.
    pub crashes: Vec<(NodeId, u64)>,
    /// Whether a leader began under a possible loss: then committed entries may be gone, and with
    /// them what was known of them.
    pub possible_loss: bool,
    /// When a node's disk was emptied, or lost what it had said it holds.
    pub wipes: Vec<(NodeId, u64)>,
    /// When a node may have lost, with its power, what it had acknowledged.
    pub torn: Vec<(NodeId, u64)>,
}

impl Truth {
    /// Whether one of these befell the leader of an entry's epoch after it had begun to lead.
    pub fn befell(&self, (group, entry): &Name, what: &[(NodeId, u64)]) -> bool {
        let leader = self.leaders.get(&(*group, entry.epoch));
        leader.is_none_or(|(leader, since_us)| {
            what.iter().any(|(node, at_us)| node == leader && at_us >= since_us)
        })
    }
}

/// Checks the reports of a run that has come to rest. What a power cut has taken from its leader
/// need not be in them, if that leader is `told` not to be heard out.
///
/// # Errors
/// The first report that is wrong or missing.
pub fn check(history: &History, truth: &Truth, reports: &[Report], told: &[Told]) -> Verdict {
    let mut reported: BTreeMap<Name, &Report> = BTreeMap::new();
    for report in reports {
        if reported.insert(report.name, report).is_some() {
            return Err(format!("lost writes: {report:?} is reported twice"));
        }
        is_true(truth, operation_of(history, &report.request), report)?;
    }
    for (name, request) in &truth.entries {
        if truth.possible_loss {
            break;
        }
        if truth.survivors.contains(name) || reported.contains_key(name) {
            continue;
        }
        let (group, entry) = name;
        let is_told = truth.befell(name, &truth.torn)
            && told.iter().any(|told| (told.group, told.epoch) == (*group, entry.epoch));
        let is_excused = is_told || truth.befell(name, &truth.wipes);
        if was_promised(history, truth, request) && !is_excused {
            return Err(format!(
                "lost writes: {name:?} of {request:?} was acknowledged and is lost, and nobody \
                 reports it"
            ));
        }
        if !truth.befell(name, &truth.crashes) {
            return Err(format!(
                "lost writes: {name:?} of {request:?} is lost, its leader never crashed, and \
                 nobody reports it"
            ));
        }
    }
    Ok(())
}

/// Whether a client was told that its write is done, durably: an OK for what copies have only
/// received promises nothing that a crash could break.
pub fn was_promised(history: &History, truth: &Truth, request: &Request) -> bool {
    let operation = operation_of(history, request).filter(|operation| operation.is_done());
    let level = operation.map(|o| o.asked.map_or(truth.level, |(_, level)| level));
    level.is_some_and(|level| level >= AckLevel::Durable)
}

fn operation_of<'a>(history: &'a History, request: &Request) -> Option<&'a Operation> {
    history.operations.get(*history.requests.get(request)?)
}

fn is_true(truth: &Truth, operation: Option<&Operation>, report: &Report) -> Verdict {
    let wrong = |why: &str| Err(format!("lost writes: {report:?}: {why}"));
    if truth.survivors.contains(&report.name) {
        return wrong("it has survived");
    }
    if report.request == UNKNOWN && truth.possible_loss && truth.entries.contains_key(&report.name)
    {
        return Ok(());
    }
    if truth.entries.get(&report.name) != Some(&report.request) {
        return wrong("no leader has appended it for this client");
    }
    // FLUSHALL is an entry in each partition, DEL one for each key, and the client is told of all
    // of them together.
    let is_part =
        operation.is_some_and(|operation| operation.action == Action::Clear || operation.keys > 1);
    let is_answered = truth.answered.contains(&report.request);
    match &*report.status {
        "acknowledged" if !is_answered && !is_part => wrong("nobody was told that it is done"),
        "not acknowledged" if is_answered && !is_part => {
            wrong("its client was told that it is done")
        }
        // Whose disk is another one can tell nothing, however its process ended.
        "maybe"
            if !truth.possible_loss
                && !truth.befell(&report.name, &truth.crashes)
                && !truth.befell(&report.name, &truth.wipes) =>
        {
            wrong("its leader never crashed, and must know")
        }
        "acknowledged" | "not acknowledged" | "maybe" => Ok(()),
        _ => wrong("there is no such status"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::wgl::tests::operation;
    use crate::history::{Answer, Outcome};
    use replication::{DatacenterId, KeyspaceId};

    fn name(epoch: u64, index: u64) -> Name {
        let group = GroupId {
            keyspace: KeyspaceId(1),
            generation: 0,
            partition: 0,
            datacenter: DatacenterId(0),
        };
        (group, EntryId { epoch, index })
    }

    /// One acknowledged write and one whose client heard nothing, both of n0's epoch 1; then n1
    /// led.
    fn world() -> (History, Truth) {
        let mut history = History::default();
        let outcomes = [Outcome::Done(Answer::Ok), Outcome::Unknown(String::new())];
        for (connection, outcome) in outcomes.into_iter().enumerate() {
            let mut operation = operation(Action::Set(String::from("~a;")), outcome, 1, 2);
            operation.connection = connection as u64;
            history.requests.insert((connection as u64, 0), connection);
            history.operations.push(operation);
        }
        let (group, _) = name(1, 1);
        let truth = Truth {
            entries: BTreeMap::from([(name(1, 2), (0, 0)), (name(1, 3), (1, 0))]),
            answered: BTreeSet::from([(0, 0)]),
            leaders: BTreeMap::from([((group, 1), (NodeId(0), 10)), ((group, 2), (NodeId(1), 20))]),
            survivors: BTreeSet::new(),
            crashes: Vec::new(),
            possible_loss: false,
            wipes: Vec::new(),
            torn: Vec::new(),
            level: AckLevel::Durable,
        };
        (history, truth)
    }

    fn report(index: u64, status: &str) -> Report {
        Report { name: name(1, index), request: (index - 2, 0), status: status.into() }
    }

    #[test]
    fn what_is_reported_must_be_so() {
        let (history, mut truth) = world();
        let verdict = |truth: &Truth, reports: &[Report]| check(&history, truth, reports, &[]);
        let right = [report(2, "acknowledged"), report(3, "not acknowledged")];
        assert!(verdict(&truth, &right).is_ok());
        let told = [report(2, "not acknowledged"), report(3, "not acknowledged")];
        assert!(verdict(&truth, &told).is_err(), "the client was told OK");
        let untold = [report(2, "acknowledged"), report(3, "acknowledged")];
        assert!(verdict(&truth, &untold).is_err(), "the client was told nothing");
        let unknown = [report(2, "maybe"), report(3, "not acknowledged")];
        assert!(verdict(&truth, &unknown).is_err(), "nobody crashed");
        truth.crashes.push((NodeId(0), 5));
        assert!(verdict(&truth, &unknown).is_err(), "it crashed before");
        truth.crashes.push((NodeId(0), 15));
        assert!(verdict(&truth, &unknown).is_ok());
        truth.survivors.insert(name(1, 3));
        assert!(verdict(&truth, &right).is_err(), "it has survived");
    }

    #[test]
    fn what_is_lost_must_be_reported() {
        let (history, mut truth) = world();
        let verdict = |truth: &Truth, reports: &[Report]| check(&history, truth, reports, &[]);
        let first = [report(2, "acknowledged")];
        assert!(verdict(&truth, &first).is_err(), "without a crash everything is known");
        truth.crashes.push((NodeId(0), 15));
        assert!(verdict(&truth, &first).is_ok(), "what was not on disk may be gone");
        let second = [report(3, "not acknowledged")];
        assert!(verdict(&truth, &second).is_err(), "what was acknowledged was on disk");
        truth.torn.push((NodeId(0), 15));
        assert!(verdict(&truth, &second).is_err(), "its power took it, and nobody says so");
        let (group, _) = name(1, 1);
        let told = [Told { group, epoch: 1, at_most: None }];
        assert!(check(&history, &truth, &second, &told).is_ok());
        truth.torn.clear();
        assert!(check(&history, &truth, &second, &told).is_err(), "it kept its power");
        truth.wipes.push((NodeId(0), 15));
        assert!(verdict(&truth, &second).is_ok());
    }
}

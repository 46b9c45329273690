//! The end of a run: once the cluster answers again, every key is read on every node, until all
//! nodes say the same.

use super::workload::{Session, Workload, joined};
use simulator::history::{Action, Answer, Operation, Outcome};
use simulator::judge;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the cluster may take until it answers again on every node, and says the same.
pub const SETTLE: Duration = Duration::from_secs(30);
/// Between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// The client number of the last commands, plus the node's place.
pub const FINAL_CLIENT: usize = 1000;

/// What the last commands have come to.
#[derive(Default)]
pub struct End {
    /// What every key reads in the end.
    pub values: judge::End,
    /// The last commands.
    pub operations: Vec<Operation>,
    /// What went wrong: a node that does not answer, nodes that do not become equal.
    pub problems: Vec<String>,
}

/// Writes once through every node, then reads the keys on every node.
pub fn read_all(workload: &Workload, keys: &[String]) -> End {
    let deadline = Instant::now() + SETTLE;
    let mut end = End::default();
    loop {
        let passes: Vec<Pass> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..workload.targets.len())
                .map(|place| scope.spawn(move || one_node(workload, place, keys, deadline)))
                .collect();
            readers.into_iter().map(joined).collect()
        });
        let silent: Vec<String> = passes.iter().filter_map(|pass| pass.silent.clone()).collect();
        let differing = passes.windows(2).find_map(|pair| difference(pair, workload));
        for pass in passes {
            end.operations.extend(pass.operations);
            end.values = pass.values;
        }
        if !silent.is_empty() {
            end.problems = silent;
            return end;
        }
        match differing {
            None => return end,
            Some(text) if Instant::now() >= deadline => {
                end.problems.push(text);
                return end;
            }
            // A write of unknown outcome, or a follower that lags where followers answer.
            Some(_) => std::thread::sleep(RETRY_EVERY),
        }
    }
}

/// One node's answers.
struct Pass {
    place: usize,
    values: BTreeMap<String, Option<String>>,
    operations: Vec<Operation>,
    silent: Option<String>,
}

fn difference(pair: &[Pass], workload: &Workload) -> Option<String> {
    let [one, other] = pair else { return None };
    let name = |pass: &Pass| workload.targets.get(pass.place).map_or("", |target| &target.name);
    let (key, value) = one.values.iter().find(|(key, v)| other.values.get(*key) != Some(v))?;
    Some(format!(
        "{key} does not become the same on all nodes: {} says {value:?}, {} says {:?}",
        name(one),
        name(other),
        other.values.get(key),
    ))
}

fn one_node(workload: &Workload, place: usize, keys: &[String], deadline: Instant) -> Pass {
    let mut session = Session::new(workload, FINAL_CLIENT + place, place);
    let mut pass = Pass { place, values: BTreeMap::new(), operations: Vec::new(), silent: None };
    let last = Action::Set(format!("~last{place};"));
    let mut result =
        insist(&mut session, &format!("last:{place}"), &last, &mut pass.operations, deadline);
    for key in keys {
        if result.is_err() {
            break;
        }
        result = insist(&mut session, key, &Action::Get, &mut pass.operations, deadline);
        if let Ok(Answer::Value(value)) = &result {
            pass.values.insert(key.clone(), value.clone());
        }
    }
    let name = workload.targets.get(place).map_or("", |target| &target.name);
    pass.silent = result.err().map(|why| {
        format!("{name} does not answer within {} s of the end: {why}", SETTLE.as_secs())
    });
    pass
}

/// Gives a command until it is carried out.
fn insist(
    session: &mut Session<'_>,
    key: &str,
    action: &Action,
    operations: &mut Vec<Operation>,
    deadline: Instant,
) -> Result<Answer, String> {
    let mut why = String::from("no connection");
    while Instant::now() < deadline {
        if let Some(operation) = session.call(key, action.clone()) {
            let outcome = operation.outcome.clone();
            operations.push(operation);
            match outcome {
                Outcome::Done(answer) => return Ok(answer),
                Outcome::Refused(text) | Outcome::Unknown(text) => why = text,
                Outcome::Pending => {}
            }
        }
        std::thread::sleep(RETRY_EVERY);
    }
    Err(format!("{:?} of {key}: {why}", action))
}

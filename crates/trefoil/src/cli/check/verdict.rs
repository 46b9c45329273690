//! From the history to a verdict: the simulator's checkers, and figures that they do not give.

use super::cluster::Keyspace;
use super::end::{End, FINAL_CLIENT};
use super::lost::Report;
use simulator::checkers::{leadership, wgl};
use simulator::history::{Action, History, Operation};
use simulator::judge::{self, Promises};
use simulator::observe::{Leadership, tokens};
use simulator::workload::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// An interval without an acknowledged write that is at least so long is an outage; microseconds.
pub const OUTAGE_MIN_US: u64 = 200_000;
/// What a report says of a write whose client was never told OK.
const NOT_ACKNOWLEDGED: &str = "not acknowledged";
/// So long before a new leader was seen to lead, the outage that it ended has begun or lasts;
/// microseconds.
const BEFORE_LEADER_US: u64 = 1_500_000;

/// All that a run has shown.
#[derive(Default)]
pub struct Findings {
    /// What must not be.
    pub violations: Vec<String>,
    /// Keys with more possible orders than can be looked at.
    pub undecided: Vec<String>,
    /// Acknowledged values that are gone in the end, with their keys.
    pub lost: Vec<(String, String)>,
    /// How many acknowledged writes can be told to be lost or not.
    pub tellable: usize,
    /// How much is missing from counters.
    pub lost_from_counters: i64,
    /// Lost acknowledged values that no node has reported.
    pub unreported: usize,
    /// Reported values that are there all the same.
    pub reported_and_there: usize,
    /// Writes reported as not acknowledged, whose client was told otherwise.
    pub reported_wrongly: usize,
    /// Reads that lack what was acknowledged before them.
    pub stale_reads: usize,
    /// How many reads can be told to be stale or not.
    pub tellable_reads: usize,
    /// Longest intervals without an acknowledged write, one for each outage; microseconds.
    pub outages_us: Vec<u64>,
    /// For each new leader, how long no write had been acknowledged; microseconds.
    pub failovers_us: Vec<u64>,
}

/// One key with all that is known of it.
struct KeyHistory<'a> {
    name: &'a str,
    history: History,
    end: Option<&'a str>,
}

/// Judges a run. `operations` hold the last reads, too.
pub fn judge(
    keyspace: &Keyspace,
    key_prefix: &str,
    operations: &[Operation],
    end: &End,
    report: &Report,
    leaderships: &[Leadership],
) -> Findings {
    let mut findings = Findings { violations: end.problems.clone(), ..Findings::default() };
    if let Err(text) = leadership::one_leader_per_epoch(leaderships) {
        findings.violations.push(text);
    }
    let mut keys: BTreeMap<&str, History> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().operations.push(operation.clone());
    }
    for (name, history) in keys {
        let value = end.values.get(name).and_then(|value| value.as_deref());
        let key = KeyHistory { name, history, end: value };
        // Without its last value a key cannot be judged, and `end.problems` says why.
        if end.values.contains_key(name) {
            findings.judge_key(keyspace.promises(), &key, report);
        }
    }
    if !keyspace.promises().acknowledged_survives && report.exists && report.silent.is_empty() {
        findings.judge_report(report.unheard);
    }
    let during = || operations.iter().filter(|operation| operation.client < FINAL_CLIENT);
    let acks = acknowledged_writes(keyspace, key_prefix, during());
    let over_us = during().map(|operation| operation.invoked_us).max().unwrap_or(0);
    findings.outages_us = outages(&acks, over_us);
    findings.failovers_us = failovers(&acks, over_us, leaderships);
    findings
}

impl Findings {
    fn judge_key(&mut self, promises: Promises, key: &KeyHistory<'_>, report: &Report) {
        let KeyHistory { name, history, end } = key;
        if let Err(text) = judge::leader_follower(promises, history, name, *end) {
            self.violations.push(text);
        }
        let searched = matches!(Kind::of(name), Some(Kind::List | Kind::Mixed | Kind::Counter));
        if promises.linearizable && searched && wgl::gives_up(history.of(name)) {
            self.undecided.push((*name).to_owned());
        }
        match Kind::of(name) {
            Some(Kind::List) => self.look_at_list(key, report),
            Some(Kind::Register) => {
                // Else an overwritten value that was lost cannot be told from one that was hidden.
                let known = promises.acknowledged_survives || report.exists;
                self.look_at_register(key, known, report);
            }
            Some(Kind::Counter) => {
                let added = |o: &Operation| match (&o.action, o.is_done()) {
                    (Action::Increment(by), true) => *by,
                    _ => 0,
                };
                let acknowledged: i64 = history.operations.iter().map(added).sum();
                let value = end.unwrap_or("0").parse().unwrap_or(0);
                self.lost_from_counters += (acknowledged - value).max(0);
            }
            _ => {}
        }
    }

    /// A list holds in the end all that survived, so each of its writes and reads can be told.
    fn look_at_list(&mut self, key: &KeyHistory<'_>, report: &Report) {
        let survivors: BTreeSet<String> =
            tokens(key.end.unwrap_or("").as_bytes()).into_iter().collect();
        let mut acknowledged: Vec<(u64, &str)> = Vec::new();
        for operation in &key.history.operations {
            let Action::Append(value) = &operation.action else { continue };
            let survives = survivors.contains(value);
            if report.values.contains_key(value) && survives {
                self.reported_and_there += 1;
            }
            let said = report.values.get(value).map(String::as_str);
            if operation.is_done() && said == Some(NOT_ACKNOWLEDGED) {
                self.reported_wrongly += 1;
            }
            if operation.is_done() {
                self.tellable += 1;
                match survives {
                    true => acknowledged.push((operation.returned_us, value)),
                    false => self.lost(key.name, value, report),
                }
            }
        }
        for operation in &key.history.operations {
            let Some(read) = operation.read() else { continue };
            let read: BTreeSet<String> =
                tokens(read.unwrap_or("").as_bytes()).into_iter().collect();
            let lacks =
                |(at, value): &(u64, &str)| *at < operation.invoked_us && !read.contains(*value);
            self.tellable_reads += 1;
            self.stale_reads += usize::from(acknowledged.iter().any(lacks));
        }
    }

    /// Of a register only what came after its last value is known to be lost; and a read is stale
    /// where a write that was not lost came after what it read.
    fn look_at_register(&mut self, key: &KeyHistory<'_>, loss_is_known: bool, report: &Report) {
        let writes: BTreeMap<&str, &Operation> = key
            .history
            .operations
            .iter()
            .filter_map(|operation| Some((operation.action.value()?, operation)))
            .collect();
        let done = || writes.iter().filter(|(_, write)| write.is_done());
        let returned = |value: Option<&str>| match value {
            Some(value) => writes.get(value).filter(|w| w.is_done()).map(|w| w.returned_us),
            None => Some(0),
        };
        if let Some(end_us) = returned(key.end) {
            self.tellable += usize::from(key.end.is_some());
            let after = |write: &Operation| write.invoked_us > end_us;
            for (value, _) in done().filter(|(_, write)| after(write)) {
                self.tellable += 1;
                self.lost(key.name, value, report);
            }
        }
        if !loss_is_known {
            return;
        }
        let lost: BTreeSet<&str> = self.lost.iter().map(|(_, value)| value.as_str()).collect();
        let kept = |value: &&str| !lost.contains(*value) && !report.values.contains_key(*value);
        // In the order of their returns, the latest call so far.
        let mut kept: Vec<(u64, u64)> = done()
            .filter(|(value, _)| kept(value))
            .map(|(_, write)| (write.returned_us, write.invoked_us))
            .collect();
        kept.sort_unstable();
        let mut latest = 0;
        for (_, invoked) in &mut kept {
            latest = latest.max(*invoked);
            *invoked = latest;
        }
        for operation in &key.history.operations {
            let Some(read_us) = operation.read().and_then(returned) else { continue };
            let before = kept.partition_point(|(at, _)| *at < operation.invoked_us);
            let newest = before.checked_sub(1).and_then(|place| kept.get(place));
            self.tellable_reads += 1;
            self.stale_reads += usize::from(newest.is_some_and(|(_, at)| *at > read_us));
        }
    }

    fn lost(&mut self, key: &str, value: &str, report: &Report) {
        self.lost.push((key.to_owned(), value.to_owned()));
        self.unreported += usize::from(!report.values.contains_key(value));
    }

    /// What is lost is reported, and what is reported is lost.
    /// Of `unheard` writes only the number is known, and only as a bound.
    fn judge_report(&mut self, unheard: u64) {
        if self.unreported as u64 > unheard {
            let text = format!("{} lost acknowledged writes are in no report", self.unreported);
            self.violations.push(text);
        }
        if self.reported_and_there > 0 {
            let count = self.reported_and_there;
            self.violations.push(format!("{count} writes are reported as lost, and are there"));
        }
        if self.reported_wrongly > 0 {
            let count = self.reported_wrongly;
            let text = format!("{count} writes are reported as {NOT_ACKNOWLEDGED}, and they were");
            self.violations.push(text);
        }
    }
}

/// For each partition, when writes were acknowledged.
fn acknowledged_writes<'a>(
    keyspace: &Keyspace,
    key_prefix: &str,
    operations: impl Iterator<Item = &'a Operation>,
) -> BTreeMap<u16, Vec<u64>> {
    let mut acks: BTreeMap<u16, Vec<u64>> =
        (0..keyspace.partitions).map(|partition| (partition, Vec::new())).collect();
    for operation in operations.filter(|o| o.is_done() && o.action.is_write()) {
        let partition = keyspace.partition_of(&format!("{key_prefix}{}", operation.key));
        acks.entry(partition).or_default().push(operation.returned_us);
    }
    acks.values_mut().for_each(|times| times.sort_unstable());
    acks
}

/// Intervals between one acknowledged write and the next; the last one ends with the run.
fn gaps(times: &[u64], over_us: u64) -> impl Iterator<Item = (u64, u64)> {
    let starts = std::iter::once(0).chain(times.iter().copied());
    let ends = times.iter().copied().chain(std::iter::once(over_us));
    starts.zip(ends).filter(|(from, to)| from < to)
}

fn outages(acks: &BTreeMap<u16, Vec<u64>>, over_us: u64) -> Vec<u64> {
    let gaps = acks.values().flat_map(|times| gaps(times, over_us));
    let mut outages: Vec<u64> =
        gaps.map(|(from, to)| to - from).filter(|length| *length >= OUTAGE_MIN_US).collect();
    outages.sort_unstable();
    outages
}

/// For each leadership but a partition's first: the longest interval without an acknowledged write
/// among those around the moment when the leader was first seen.
fn failovers(acks: &BTreeMap<u16, Vec<u64>>, over_us: u64, leaderships: &[Leadership]) -> Vec<u64> {
    let mut by_partition: BTreeMap<u16, Vec<(u64, u64)>> = BTreeMap::new();
    for seen in leaderships {
        by_partition.entry(seen.group.partition).or_default().push((seen.epoch, seen.at_us));
    }
    let mut failovers = Vec::new();
    for (partition, mut starts) in by_partition {
        starts.sort_unstable();
        let times = acks.get(&partition).map_or(&[] as &[u64], Vec::as_slice);
        for (_, at_us) in starts.into_iter().skip(1) {
            let from_us = at_us.saturating_sub(BEFORE_LEADER_US);
            let around = gaps(times, over_us).filter(|(from, to)| *to >= from_us && *from <= at_us);
            failovers.extend(around.map(|(from, to)| to - from).max());
        }
    }
    failovers.sort_unstable();
    failovers
}

/// The value that so many percent of the sorted values do not exceed.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::check::cluster::KeyspaceOptions;
    use replication::quorum::Quorum;
    use replication::{DatacenterId, GroupId, KeyspaceId, NodeId};
    use simulator::history::{Answer, Outcome};

    fn keyspace(acks: usize) -> Keyspace {
        Keyspace {
            prefix: String::new(),
            options: KeyspaceOptions { reads: String::from("leader"), ..Default::default() },
            quorum: Quorum { replicas: 3, acks, election: 2, commit: 2 },
            partitions: 1,
        }
    }

    fn operation(key: &str, action: Action, answer: Answer, from: u64, to: u64) -> Operation {
        Operation {
            client: 0,
            connection: from,
            node: NodeId(0),
            datacenter: DatacenterId(0),
            key: key.into(),
            action,
            invoked_us: from,
            returned_us: to,
            outcome: Outcome::Done(answer),
            asked: None,
            must_survive: None,
            copies: None,
            keys: 1,
        }
    }

    fn append(value: &str, length: i64, from: u64) -> Operation {
        let action = Action::Append(value.into());
        operation("list:1", action, Answer::Number(length), from, from + 1)
    }

    fn get(key: &str, value: Option<&str>, from: u64) -> Operation {
        let answer = Answer::Value(value.map(String::from));
        operation(key, Action::Get, answer, from, from + 1)
    }

    fn judged(
        acks: usize,
        operations: &[Operation],
        end: Option<&str>,
        report: &Report,
    ) -> Findings {
        let values = operations.iter().map(|o| (o.key.clone(), end.map(String::from))).collect();
        let end = End { values, ..End::default() };
        judge(&keyspace(acks), "", operations, &end, report, &[])
    }

    fn report(values: &[&str]) -> Report {
        report_as(values, "acknowledged")
    }

    fn report_as(values: &[&str], status: &str) -> Report {
        let values = values.iter().map(|value| (value.to_string(), String::from(status)));
        Report { exists: true, values: values.collect(), ..Report::default() }
    }

    #[test]
    fn a_lost_write_is_a_violation_where_acknowledged_writes_survive() {
        let operations =
            [append("~a;", 3, 10), append("~b;", 6, 20), get("list:1", Some("~a;"), 30)];
        let findings = judged(2, &operations, Some("~a;"), &Report::default());
        assert_eq!((findings.lost.len(), findings.unreported, findings.tellable), (1, 1, 2));
        assert!(findings.violations[0].contains("lost write: ~b;"), "{:?}", findings.violations);
        assert_eq!(findings.stale_reads, 0, "what is lost cannot be read");
    }

    #[test]
    fn a_lost_async_write_has_to_be_reported_and_nothing_else() {
        let operations = [append("~a;", 3, 10), append("~b;", 6, 20)];
        let verdict = |report: &Report| judged(1, &operations, Some("~a;"), report).violations;
        assert!(verdict(&Report::default()).is_empty(), "nobody could report it");
        assert!(verdict(&report(&["~b;"])).is_empty());
        assert!(verdict(&report(&[]))[0].contains("1 lost acknowledged writes are in no report"));
        assert!(verdict(&report(&["~a;", "~b;"]))[0].contains("are there"));
        assert!(verdict(&report_as(&["~b;"], "maybe")).is_empty());
        assert!(verdict(&report_as(&["~b;"], NOT_ACKNOWLEDGED))[0].contains("and they were"));
    }

    #[test]
    fn stale_reads_of_lists_and_registers_are_counted() {
        let set = |value: &str, from| {
            operation("register:1", Action::Set(value.into()), Answer::Ok, from, from + 1)
        };
        let registers = [
            set("~a;", 10),
            set("~b;", 20),
            get("register:1", Some("~a;"), 30),
            get("register:1", Some("~b;"), 40),
            get("register:1", None, 50),
        ];
        let findings = judged(2, &registers, Some("~b;"), &Report::default());
        assert_eq!((findings.stale_reads, findings.tellable_reads, findings.lost.len()), (2, 3, 0));
        assert!(findings.violations[0].contains("not linearizable"));
        let lists = [append("~a;", 3, 10), append("~b;", 6, 20), get("list:1", Some("~a;"), 30)];
        let findings = judged(2, &lists, Some("~a;~b;"), &Report::default());
        assert_eq!((findings.stale_reads, findings.tellable_reads), (1, 1));
    }

    #[test]
    fn outages_and_failovers_are_measured_between_acknowledged_writes() {
        let second = 1_000_000;
        let times = BTreeMap::from([(0, vec![second, second + 5, 3 * second, 3 * second + 9])]);
        assert_eq!(outages(&times, 4 * second), [second - 9, second, 2 * second - 5]);
        let group = GroupId {
            keyspace: KeyspaceId(0),
            generation: 0,
            partition: 0,
            datacenter: DatacenterId(0),
        };
        let seen = |epoch, at_us| Leadership { at_us, node: NodeId(0), group, epoch };
        let starts = [seen(1, 10), seen(4, 3 * second + 5)];
        assert_eq!(failovers(&times, 4 * second, &starts), [2 * second - 5]);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!((percentile(&[1, 2, 3], 50), percentile(&[1, 2, 3], 99)), (2, 3));
    }
}

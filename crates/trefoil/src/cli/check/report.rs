//! What a run has come to: for people, and for programs.

use super::cluster::{Keyspace, Target};
use super::lost::Report;
use super::verdict::{Findings, OUTAGE_MIN_US, percentile};
use replication::NodeId;
use serde_json::{Value, json};
use simulator::history::{Answer, Operation, Outcome};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// So many violations are shown, the others counted.
const VIOLATIONS_SHOWN_MAX: usize = 10;

/// A run with its verdict.
pub struct Outcomes<'a> {
    /// What was tested.
    pub keyspace: &'a Keyspace,
    /// Through which nodes.
    pub targets: &'a [Target],
    /// What the clients saw, the last reads included.
    pub operations: &'a [Operation],
    /// How long they went on; seconds.
    pub seconds: f64,
    /// What it shows.
    pub findings: &'a Findings,
    /// What the nodes say themselves.
    pub report: &'a Report,
}

/// How often each outcome occurred.
#[derive(Default)]
struct Counts {
    done: usize,
    unknown: usize,
    refused: usize,
    errors: BTreeMap<String, usize>,
}

impl Outcomes<'_> {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.findings.violations.is_empty()
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for operation in self.operations {
            let text = match &operation.outcome {
                Outcome::Done(_) => {
                    counts.done += 1;
                    continue;
                }
                Outcome::Refused(text) => {
                    counts.refused += 1;
                    text
                }
                Outcome::Unknown(text) => {
                    counts.unknown += 1;
                    text
                }
                Outcome::Pending => continue,
            };
            let word = text.split_whitespace().next().unwrap_or("");
            *counts.errors.entry(word.to_owned()).or_default() += 1;
        }
        counts
    }

    /// The lines that are printed.
    pub fn text(&self) -> String {
        let mut lines = self.what_happened();
        lines.extend(self.what_was_lost());
        lines.extend(self.verdict());
        let mut out = String::new();
        for (name, text) in lines {
            let _ = writeln!(out, "{name:<18}{text}");
        }
        out
    }

    fn what_happened(&self) -> Vec<(&'static str, String)> {
        let counts = self.counts();
        let names: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
        let operations = format!(
            "{} in {:.1} s: {} carried out, {} refused, {} of unknown outcome",
            self.operations.len(),
            self.seconds,
            counts.done,
            counts.refused,
            counts.unknown,
        );
        let mut lines = vec![
            ("keyspace", describe(self.keyspace)),
            ("clients ask", names.join(", ")),
            ("operations", operations),
        ];
        if !counts.errors.is_empty() {
            lines.push(("errors", tally(&counts.errors)));
        }
        let failovers = &self.findings.failovers_us;
        let text = format!("{}; unavailable {}", failovers.len(), lengths(failovers));
        lines.push(("failovers", text));
        let outages = &self.findings.outages_us;
        let (count, least) = (outages.len(), seconds(OUTAGE_MIN_US));
        let lengths = lengths(outages);
        let text = format!("{count} of {least} s or more without an acknowledged write; {lengths}");
        lines.push(("outages", text));
        lines
    }

    fn what_was_lost(&self) -> Vec<(&'static str, String)> {
        let Outcomes { findings, report, .. } = self;
        let lost = format!(
            "{} acknowledged writes (of {} of which it can be told), {} of them in no report",
            findings.lost.len(),
            findings.tellable,
            findings.unreported,
        );
        let mut lines = vec![("lost", lost)];
        if findings.lost_from_counters > 0 {
            lines.push(("", format!("and {} missing from counters", findings.lost_from_counters)));
        }
        let reported: usize = report.by_status.values().sum();
        let told = match (report.exists, reported) {
            (false, _) => String::from("0: the nodes know no TF.LOST"),
            (true, 0) => String::from("0"),
            (true, _) => format!("{reported}: {}", tally(&report.by_status)),
        };
        lines.push(("reported as lost", told));
        if report.unheard > 0 {
            let bound = match report.unheard_writes {
                u64::MAX => String::from("nobody knows how many"),
                writes => format!("at most {writes}"),
            };
            let leaders = report.unheard;
            lines.push(("", format!("and {bound}, of {leaders} leaders that are not back")));
        }
        lines.extend(report.silent.iter().map(|silent| ("", format!("no report of {silent}"))));
        lines
    }

    fn verdict(&self) -> Vec<(&'static str, String)> {
        let findings = self.findings;
        let (stale, of) = (findings.stale_reads, findings.tellable_reads);
        let mut lines = vec![("stale reads", format!("{stale} (of {of} of which it can be told)"))];
        if !findings.undecided.is_empty() {
            let count = findings.undecided.len();
            lines
                .push(("not judged", format!("the orders of {count} keys: too many are possible")));
        }
        let violations = &findings.violations;
        lines.push((
            "verdict",
            match violations.len() {
                0 => String::from("nothing is wrong"),
                count => format!("{count} violations"),
            },
        ));
        let shown = violations.iter().take(VIOLATIONS_SHOWN_MAX);
        lines.extend(shown.map(|violation| ("", violation.clone())));
        lines
    }

    /// Writes the summary and the whole history.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        write!(file, "{{\"summary\":{},\n\"operations\":[", self.summary())?;
        for (number, operation) in self.operations.iter().enumerate() {
            let separator = if number == 0 { "\n" } else { ",\n" };
            write!(file, "{separator}{}", self.operation(operation))?;
        }
        writeln!(file, "\n]}}")?;
        file.flush()
    }

    fn summary(&self) -> Value {
        let Outcomes { keyspace, findings, report, .. } = self;
        let counts = self.counts();
        let quorum = &keyspace.quorum;
        json!({
            "prefix": keyspace.prefix,
            "acks": keyspace.options.acks,
            "failover": keyspace.options.failover,
            "reads": keyspace.options.reads,
            "quorum": { "replicas": quorum.replicas, "acks": quorum.acks,
                        "election": quorum.election, "commit": quorum.commit },
            "operations": self.operations.len(),
            "carried_out": counts.done,
            "refused": counts.refused,
            "unknown": counts.unknown,
            "errors": counts.errors,
            "failovers_us": findings.failovers_us,
            "outages_us": findings.outages_us,
            "lost": findings.lost,
            "lost_from_counters": findings.lost_from_counters,
            "lost_and_unreported": findings.unreported,
            "reported": report.by_status,
            "stale_reads": findings.stale_reads,
            "undecided": findings.undecided,
            "violations": findings.violations,
        })
    }

    fn operation(&self, operation: &Operation) -> Value {
        let (outcome, answer) = match &operation.outcome {
            Outcome::Pending => ("unknown", Value::Null),
            Outcome::Done(Answer::Ok) => ("ok", json!("OK")),
            Outcome::Done(Answer::Value(value)) => ("ok", json!(value)),
            Outcome::Done(Answer::Number(number)) => ("ok", json!(number)),
            Outcome::Refused(text) => ("refused", json!(text)),
            Outcome::Unknown(text) => ("unknown", json!(text)),
        };
        json!({
            "client": operation.client,
            "connection": operation.connection,
            "node": self.name_of(operation.node),
            "command": operation.action.arguments(&operation.key),
            "invoked_us": operation.invoked_us,
            "returned_us": operation.returned_us,
            "outcome": outcome,
            "answer": answer,
        })
    }

    fn name_of(&self, node: NodeId) -> &str {
        let target = self.targets.iter().find(|target| target.node == node);
        target.map_or("", |target| &target.name)
    }
}

fn describe(keyspace: &Keyspace) -> String {
    let quorum = &keyspace.quorum;
    format!(
        "`{}`: acks {}, failover {}, reads {} (N={} A={} E={} C={}): {}",
        keyspace.prefix,
        keyspace.options.acks,
        keyspace.options.failover,
        keyspace.options.reads,
        quorum.replicas,
        quorum.acks,
        quorum.election,
        quorum.commit,
        match (keyspace.promises().acknowledged_survives, keyspace.promises().linearizable) {
            (true, true) => "no acknowledged write may be lost, no read stale",
            (true, false) => "no acknowledged write may be lost",
            (false, true) => "linearizable while no write is lost",
            (false, false) => "acknowledged writes can be lost, and have to be reported",
        }
    )
}

fn tally(counts: &BTreeMap<String, usize>) -> String {
    let parts: Vec<String> = counts.iter().map(|(word, count)| format!("{word} {count}")).collect();
    parts.join(", ")
}

/// The middle and the end of sorted lengths.
fn lengths(sorted_us: &[u64]) -> String {
    if sorted_us.is_empty() {
        return String::from("-");
    }
    let at = |percent| seconds(percentile(sorted_us, percent));
    format!("p50 {} s, p99 {} s, longest {} s", at(50), at(99), at(100))
}

fn seconds(us: u64) -> String {
    format!("{:.2}", us as f64 / 1e6)
}

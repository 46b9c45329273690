//! `trefoil check`: holds a running cluster to what it promises.
//!
//! `cluster.rs` learns from the nodes what the keyspace promises and who leads when; `workload.rs`
//! drives clients and keeps their history, `connection.rs` being the client; `end.rs` reads every
//! key on every node when the clients are done; `lost.rs` asks for the nodes' own reports;
//! `verdict.rs` gives all of it to the simulator's checkers; `report.rs` prints it.
//!
//! What it leaves out: multi-leader and leaderless keyspaces, whose checkers need the stamps that
//! only a simulated cluster shows; and faults, which are `scripts/chaos.sh`'s.

mod cluster;
mod connection;
mod end;
mod lost;
mod report;
mod verdict;
mod workload;

use crate::cli::{addresses, say};
use crate::config;
use cluster::{Keyspace, Target};
use miette::{IntoDiagnostic, WrapErr, miette};
use report::Outcomes;
use simulator::history::Operation;
use simulator::observe::Leadership;
use simulator::options::ModelName;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use verdict::Findings;
use workload::Workload;

/// How long an old leader may take to report what it has lost, after it answers again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the reports.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Keys of a run that went well are deleted, so many at a time.
const DELETED_AT_ONCE: usize = 100;

/// What `check` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The replication model of the keyspace: leader-follower.
    #[arg(long, default_value = "leader-follower")]
    model: String,
    /// Where to ask for the cluster's nodes: the first that answers tells.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:7001")]
    addr: Vec<String>,
    /// Which nodes the clients ask. [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    nodes: Option<Vec<String>>,
    /// The keyspace.
    #[arg(long, default_value = "")]
    prefix: String,
    /// How long the clients go on.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many clients.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// How many keys are in use at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    keys: u16,
    /// How long a client waits for an answer.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: u64,
    /// Write the summary and the whole history into a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Checks a cluster; fails where anything is wrong.
pub fn run(options: &Options) -> miette::Result<ExitCode> {
    refuse_other_models(&options.model)?;
    let addresses = addresses::resolve(&options.addr)?;
    let (targets, keyspace) =
        cluster::learn(&addresses, options.nodes.as_deref(), &options.prefix)?;
    let seed = config::random_u64().into_diagnostic()?;
    // Two runs on one cluster share no key.
    let key_prefix = format!("{}check-{:08x}:", options.prefix, seed as u32);
    let (clients, keys) = (usize::from(options.clients), usize::from(options.keys));
    let mut workload = Workload::new(targets, key_prefix, clients, keys);
    workload.duration = Duration::from_secs(options.seconds);
    workload.timeout = Duration::from_millis(options.timeout_ms);
    workload.seed = seed;
    check(&workload, &keyspace, options)
}

fn check(workload: &Workload, keyspace: &Keyspace, options: &Options) -> miette::Result<ExitCode> {
    let started = Instant::now();
    let (mut operations, leaderships) = drive(workload, &keyspace.prefix);
    let seconds = started.elapsed().as_secs_f64();
    let keys: BTreeSet<String> = operations.iter().map(|o| o.key.clone()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let end = end::read_all(workload, &keys);
    operations.extend(end.operations.iter().cloned());
    workload::sort(&mut operations);
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let (report, mut findings) = loop {
        let report = lost::ask_all(workload, &keyspace.prefix);
        let prefix = &workload.key_prefix;
        let findings = verdict::judge(keyspace, prefix, &operations, &end, &report, &leaderships);
        let late = report.exists && findings.unreported > 0 && Instant::now() < deadline;
        if !late {
            break (report, findings);
        }
        std::thread::sleep(LOOK_EVERY);
    };
    refuse_silence(&operations, &mut findings);
    let targets = &workload.targets;
    let outcomes = Outcomes {
        keyspace,
        targets,
        operations: &operations,
        seconds,
        findings: &findings,
        report: &report,
    };
    say(&outcomes.text());
    let well = outcomes.is_well();
    let file = options.json.clone().or_else(|| (!well).then(history_file));
    if let Some(file) = file {
        let name = file.display();
        outcomes
            .write_json(&file)
            .into_diagnostic()
            .wrap_err_with(|| format!("the history cannot be written to {name}"))?;
        say(&format!("{:<18}{name}\n", "history"));
    }
    if !well {
        return Ok(ExitCode::FAILURE);
    }
    delete(workload, &keys);
    Ok(ExitCode::SUCCESS)
}

/// Runs the clients while the nodes are watched.
fn drive(workload: &Workload, prefix: &str) -> (Vec<Operation>, Vec<Leadership>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let watch =
            |target| scope.spawn(move || cluster::watch(target, prefix, workload.clock, stop));
        let watchers: Vec<_> = workload.targets.iter().map(watch).collect();
        let operations = workload.run();
        stop.store(true, Ordering::Relaxed);
        let mut leaderships: Vec<Leadership> =
            watchers.into_iter().flat_map(workload::joined).collect();
        leaderships.sort_by_key(|leadership| leadership.at_us);
        (operations, leaderships)
    })
}

/// A run in which nothing was carried out has shown nothing.
fn refuse_silence(operations: &[Operation], findings: &mut Findings) {
    let clients = || operations.iter().filter(|o| o.client < end::FINAL_CLIENT && o.is_done());
    for (what, writes) in [("write", true), ("read", false)] {
        if !clients().any(|operation| operation.action.is_write() == writes) {
            findings.violations.push(format!("no {what} was carried out in the whole run"));
        }
    }
}

fn refuse_other_models(model: &str) -> miette::Result<()> {
    match ModelName::parse(model) {
        Some(ModelName::LeaderFollower) => Ok(()),
        Some(other) => Err(miette!(
            "--model: {other} clusters cannot be checked in this version, only leader-follower; \
             `trefoil sim --model {other}` checks simulated ones"
        )),
        None => Err(miette!("--model: `{model}` is no model; say leader-follower")),
    }
}

/// Where the history of a run that went wrong is kept if no file was named.
fn history_file() -> PathBuf {
    std::env::temp_dir().join(format!("trefoil-check-{}.json", std::process::id()))
}

/// Leaves the cluster as it was found; what cannot be deleted stays.
fn delete(workload: &Workload, keys: &[String]) {
    let Some(Target { address, .. }) = workload.targets.first() else { return };
    let Ok(mut connection) = connection::Connection::open(*address, workload.timeout) else {
        return;
    };
    let last = (0..workload.targets.len()).map(|place| format!("last:{place}"));
    let keys: Vec<String> = keys.iter().cloned().chain(last).collect();
    for some in keys.chunks(DELETED_AT_ONCE) {
        let names = some.iter().map(|key| workload.on_the_wire(key));
        let words: Vec<String> = std::iter::once(String::from("DEL")).chain(names).collect();
        if connection.call(&words).is_err() {
            return;
        }
    }
}

//! What a command costs in the core: instructions, counted by callgrind, and how often it asks the
//! allocator, held against `step_cost.txt`. Neither depends on the machine's load. Needs valgrind.
//!
//! After a change that is meant to cost more or less:
//! `UPDATE=1 cargo test -p replication --test step_cost` writes the baseline anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an operation may cost more than the baseline says, in percent.
const SLACK_PERCENT: f64 = 5.0;
/// How often more it may ask the allocator, in a thousand operations.
const SLACK_ALLOCATIONS: f64 = 5.0;
const CASES: [&str; 13] = [
    "get",
    "get-in-128-keyspaces",
    "set",
    "set-in-64-partitions",
    "set-in-128-keyspaces",
    "replicated-get",
    "replicated-set",
    "replicated-set-in-64-partitions",
    "proxied-get",
    "proxied-set",
    "quorum-get",
    "quorum-set",
    "multi-leader-set",
];
const PIPELINES: [u64; 2] = [1, 16];
/// What a SET may ask the allocator in a thousand operations whatever the baseline says, all three
/// datacenters together: a turn's log record may cost one, and so may a message of a heartbeat.
const FIRM_CASE: (&str, f64) = ("multi-leader-set", 100.0);
/// Both are multiples of what a round does: the difference is in operations alone.
const FEW: u64 = 48 * 16 * 4;
const MANY: u64 = 48 * 16 * 12;

/// Builds the example as it would be in a release, and says where it is.
fn build(manifest: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("step_cost");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked", "--example", "step_cost"])
        .args(["-p", "replication", "--target-dir"])
        .arg(&target)
        .current_dir(manifest)
        .status()
        .unwrap();
    assert!(built.success(), "the example does not build");
    target.join("release/examples/step_cost")
}

/// What so many operations cost.
struct Cost {
    instructions: u64,
    /// In a thousand operations, all but the first of a run.
    allocations: f64,
}

fn cost_of(program: &Path, case: &str, pipeline: u64, operations: u64) -> Cost {
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(case)
        .args(["--pipeline", &pipeline.to_string(), "--operations", &operations.to_string()])
        .output()
        .expect("valgrind is not there: install it (Debian: valgrind)");
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{case}: {text}");
    let line = text.lines().find(|line| line.contains("Collected :")).expect("a count");
    let instructions = line.rsplit(' ').next().unwrap().parse().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    let told = told.lines().find_map(|line| line.strip_prefix("allocations per operation: "));
    let allocations = told.expect("a count").parse::<f64>().unwrap() * 1000.0;
    Cost { instructions, allocations }
}

/// A number of a case's line in the baseline; 0 for a new case.
fn before(line: Option<&str>, name: &str) -> f64 {
    let mut words = line.unwrap_or_default().split(' ');
    let number = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    number.map_or(0.0, |number| number.parse().unwrap())
}

#[test]
fn a_command_costs_no_more_instructions_than_before() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = build(manifest);
    let page = manifest.join("tests/step_cost.txt");
    let baseline = std::fs::read_to_string(&page).unwrap_or_default();
    let (mut now, mut dearer) = (String::new(), String::new());
    for case in CASES {
        for pipeline in PIPELINES {
            let many = cost_of(&program, case, pipeline, MANY);
            let few = cost_of(&program, case, pipeline, FEW);
            let cost = (many.instructions - few.instructions) / (MANY - FEW);
            let asked = many.allocations;
            assert!(case != FIRM_CASE.0 || asked <= FIRM_CASE.1, "{case}: {asked} allocations");
            let name = format!("{case} pipeline={pipeline} ");
            let _ = writeln!(now, "{name}instructions={cost} allocations-in-1000={asked:.0}");
            let line = baseline.lines().find_map(|line| line.strip_prefix(&name));
            let instructions = before(line, "instructions");
            if cost as f64 > instructions * (1.0 + SLACK_PERCENT / 100.0) {
                let _ = writeln!(dearer, "{name}: {cost} instructions, {instructions} before");
            }
            let allocations = before(line, "allocations-in-1000");
            if asked > allocations + SLACK_ALLOCATIONS {
                let _ = writeln!(dearer, "{name}: {asked} allocations, {allocations} before");
            }
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&page, now).unwrap();
    }
    assert!(dearer.is_empty(), "{dearer}now:\n{now}");
}

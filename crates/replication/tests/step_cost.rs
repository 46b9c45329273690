//! What a command costs in the core, in instructions: counted by callgrind, held against
//! `step_cost.txt`. It does not depend on the machine's load. Needs valgrind.
//!
//! After a change that is meant to cost more or less:
//! `UPDATE=1 cargo test -p replication --test step_cost` writes the baseline anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an operation may cost more than the baseline says, in percent.
const SLACK_PERCENT: f64 = 5.0;
const CASES: [&str; 9] = [
    "get",
    "set",
    "replicated-get",
    "replicated-set",
    "proxied-get",
    "proxied-set",
    "quorum-get",
    "quorum-set",
    "multi-leader-set",
];
const PIPELINES: [u64; 2] = [1, 16];
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

fn instructions(program: &Path, case: &str, pipeline: u64, operations: u64) -> u64 {
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
    line.rsplit(' ').next().unwrap().parse().unwrap()
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
            let many = instructions(&program, case, pipeline, MANY);
            let few = instructions(&program, case, pipeline, FEW);
            let cost = (many - few) / (MANY - FEW);
            let name = format!("{case} pipeline={pipeline}");
            let _ = writeln!(now, "{name} instructions={cost}");
            let before = baseline.lines().find_map(|line| line.strip_prefix(&name));
            let before = before.and_then(|rest| rest.strip_prefix(" instructions="));
            let before: f64 = before.map_or(0.0, |number| number.parse().unwrap());
            if cost as f64 > before * (1.0 + SLACK_PERCENT / 100.0) {
                let _ = writeln!(dearer, "{name}: {cost} instructions, {before} before");
            }
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&page, now).unwrap();
    }
    assert!(dearer.is_empty(), "{dearer}now:\n{now}");
}

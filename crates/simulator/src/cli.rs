//! `trefoil sim [SEED] [--model M] [--seeds A..B] [--with FAMILY] [--trace]`.

use crate::faults::Families;
use crate::options::{ModelName, Options};
use crate::run::{self, Outcomes};
use crate::sometimes::{self, Counts};
use replication::mutant::Mutants;
use std::time::Instant;

const USAGE: &str = "usage: trefoil sim [SEED] [--model M] [--seeds A..B] [--with FAMILY] [--trace]

Plays a whole cluster in one thread, from one number, under faults; then heals it and checks what
clients saw. The same number gives the same run.

  SEED           one run, with its numbers printed
  --seeds A..B   all runs from A to B, both included (default: 1..100)
  --model M      leader-follower, multi-leader or leaderless (default: all three)
  --with FAMILY  switch on a family of faults where the seed's cluster can go on: wipes, ...
                 (a run prints those that it has)
  --trace        print what happened, a line for each thing, with its virtual time";

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Request {
    seeds: (u64, u64),
    single: bool,
    models: Vec<ModelName>,
    families: Vec<String>,
    trace: bool,
}

/// Runs the command; the result is the process's exit code.
pub fn main(args: Vec<String>) -> i32 {
    match parse(&args) {
        Ok(Some(request)) => play(&request),
        Ok(None) => {
            println!("{USAGE}");
            0
        }
        Err(error) => {
            eprintln!("trefoil sim: {error}\n\n{USAGE}");
            2
        }
    }
}

fn parse(args: &[String]) -> Result<Option<Request>, String> {
    let mut request = Request {
        seeds: (1, 100),
        single: false,
        models: ModelName::ALL.to_vec(),
        families: Vec::new(),
        trace: false,
    };
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--trace" => request.trace = true,
            "--model" => {
                let name = value()?;
                let model = ModelName::parse(name)
                    .ok_or_else(|| format!("there is no model called {name}"))?;
                request.models = vec![model];
            }
            "--with" => {
                let name = value()?;
                if !Families::default().switch_on(name) {
                    return Err(format!("there is no family of faults called {name}"));
                }
                request.families.push(name.clone());
            }
            "--seeds" => {
                let text = value()?;
                let range = text.split_once("..").and_then(|(first, last)| {
                    Some((first.parse().ok()?, last.trim_start_matches('=').parse().ok()?))
                });
                request.seeds = range.ok_or_else(|| format!("{text} is no range like 1..200"))?;
            }
            seed => {
                let seed =
                    seed.parse().map_err(|_| format!("{seed} is neither a seed nor an option"))?;
                request.seeds = (seed, seed);
                request.single = true;
            }
        }
    }
    Ok(Some(request))
}

fn play(request: &Request) -> i32 {
    // The panic of a node is reported with its seed; the default message would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = 0;
    let (began, cpu_began) = (Instant::now(), cpu_us());
    let mut simulated_us = 0;
    for model in &request.models {
        let mut counts = Counts::new();
        let (mut runs, mut steps) = (0u64, 0u64);
        for seed in request.seeds.0..=request.seeds.1 {
            let options = Options::of(seed, *model, Mutants::default());
            let options = request.families.iter().try_fold(options, |all, name| all.also(name));
            let Some(options) = options else { continue };
            let outcomes = run::play(options, request.trace);
            runs += 1;
            steps += outcomes.steps;
            simulated_us += outcomes.simulated_us;
            for (what, count) in &outcomes.counts {
                *counts.entry(what).or_default() += count;
            }
            if request.trace {
                print!("{}", outcomes.trace.text());
            }
            if request.single {
                println!("{}", outcomes.options);
            }
            failed += u64::from(report(&outcomes));
        }
        println!("{model}: {runs} runs, {steps} steps");
        for (what, count) in &counts {
            println!("  {count:>8} {what}");
        }
        for what in sometimes::never(*model, runs, &counts) {
            println!("FAILED {model}: {what} never happened in {runs} seeds");
            failed += 1;
        }
        if let Some(what) = sometimes::too_often(runs, &counts) {
            println!("FAILED {model}: {what}");
            failed += 1;
        }
    }
    let spent_us = match (cpu_began, cpu_us()) {
        (Some(began), Some(ended)) => ended - began,
        _ => began.elapsed().as_micros() as u64,
    };
    let hours = simulated_us.checked_div(spent_us).unwrap_or(0);
    println!("{} virtual seconds, {hours} simulated hours per CPU hour", simulated_us / 1_000_000);
    i32::from(failed > 0)
}

/// The CPU time of this thread, which is all that a simulation has. Where the system does not tell
/// it, the time that has passed must do.
fn cpu_us() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1000)
}

/// Tells of a failure; says whether there was one.
fn report(outcomes: &Outcomes) -> bool {
    let Some(failure) = &outcomes.failure else { return false };
    println!("FAILED seed {} {}: {failure}", outcomes.options.seed, outcomes.options.model);
    println!("{}", outcomes.replay());
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse_text(text: &str) -> Result<Option<Request>, String> {
        parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn seeds_models_and_ranges() {
        let one = parse_text("42 --model leaderless --trace").unwrap().unwrap();
        assert_eq!(one.seeds, (42, 42));
        assert_eq!(one.models, [ModelName::Leaderless]);
        assert!(one.trace && one.single);
        let wild = parse_text("7 --with drift-beyond").unwrap().unwrap();
        assert_eq!(wild.families, ["drift-beyond"]);
        let range = parse_text("--seeds 1..200").unwrap().unwrap();
        assert_eq!(range.seeds, (1, 200));
        assert_eq!(range.models.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse_text("--model raft").unwrap_err().contains("raft"));
        assert!(parse_text("--seeds 1-3").unwrap_err().contains("1-3"));
        assert!(parse_text("--with earthquakes").unwrap_err().contains("earthquakes"));
        assert!(parse_text("fast").unwrap_err().contains("fast"));
        assert!(parse_text("--seeds").unwrap_err().contains("--seeds"));
        assert!(parse_text("--help").unwrap().is_none());
    }
}

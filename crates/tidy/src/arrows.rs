//! Who may name whom: the crates, and the models inside `replication`.

use crate::lexer::{code_only, lines_with_word};
use crate::{Failure, Source};

const CORE: &str = "crates/replication/src/";
const MODELS: [&str; 3] = ["leader_follower", "multi_leader", "leaderless"];
/// Where all three models meet.
const MEETING_PLACES: [&str; 5] = ["lib.rs", "node/", "node.rs", "keyspace/", "keyspace.rs"];
/// The crates that each crate of the workspace may depend on.
const CRATES: [(&str, &[&str]); 4] = [
    ("replication", &[]),
    ("simulator", &["replication"]),
    ("tidy", &[]),
    ("trefoil", &["replication", "simulator"]),
];

/// All rules of this page.
pub fn check(source: &Source) -> Vec<Failure> {
    let mut failures = Vec::new();
    if source.is("Cargo.toml") {
        crates(source, &mut failures);
    }
    if source.is(".rs") {
        simulator_is_for_the_command_line(source, &mut failures);
        models_do_not_name_models(source, &mut failures);
    }
    failures
}

fn crates(source: &Source, failures: &mut Vec<Failure>) {
    let name =
        source.path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml"));
    let Some(name) = name else { return };
    let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
        failures.push(Failure::new(source, 1, "a new crate has its arrows listed in crates/tidy"));
        return;
    };
    for (number, line) in source.text.lines().enumerate() {
        for (other, _) in CRATES.iter().filter(|(other, _)| *other != name) {
            let rest = line.strip_prefix(other).unwrap_or("");
            if rest.starts_with(['.', ' ', '=']) && !allowed.contains(other) {
                let rule = format!("`{name}` does not depend on `{other}`");
                failures.push(Failure::new(source, number + 1, rule));
            }
        }
    }
}

fn simulator_is_for_the_command_line(source: &Source, failures: &mut Vec<Failure>) {
    let elsewhere = ["crates/simulator/", "crates/trefoil/src/cli/", "crates/tidy/"];
    if elsewhere.iter().any(|place| source.path.starts_with(place)) {
        return;
    }
    for line in lines_with_word(&code_only(&source.text), "simulator") {
        let rule = "only the command line names the simulator";
        failures.push(Failure::new(source, line, rule));
    }
}

fn models_do_not_name_models(source: &Source, failures: &mut Vec<Failure>) {
    let Some(path) = source.path.strip_prefix(CORE) else { return };
    // The page that says which command does what in which model is about all three.
    let about_commands = path.starts_with("command/") && path.contains("doc");
    if about_commands || MEETING_PLACES.iter().any(|place| path.starts_with(place)) {
        return;
    }
    let own = MODELS
        .iter()
        .find(|model| path.strip_prefix(**model).is_some_and(|rest| rest.starts_with(['/', '.'])));
    let code = code_only(&source.text);
    for model in MODELS.iter().filter(|model| own != Some(*model)) {
        for line in lines_with_path(&code, model) {
            let rule = match own {
                Some(own) => format!("`{own}` does not name `{model}`"),
                None => format!("what the models share does not name `{model}`"),
            };
            failures.push(Failure::new(source, line, rule));
        }
    }
}

/// The lines on which a word is a part of a path, and not just the name of something else.
fn lines_with_path(code: &str, model: &str) -> Vec<usize> {
    let inside = format!("{model}::");
    let (of_crate, above) = (format!("crate::{model}"), format!("super::{model}"));
    let lines: Vec<&str> = code.lines().collect();
    let is_path = |number: &usize| {
        let line = lines.get(number - 1).unwrap_or(&"");
        line.contains(&inside) || line.contains(&of_crate) || line.contains(&above)
    };
    lines_with_word(code, model).into_iter().filter(is_path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).into_iter().map(|failure| failure.line).collect()
    }

    #[test]
    fn crates_point_one_way() {
        let manifest = "[dependencies]\n# Why.\nreplication.workspace = true\n";
        assert_eq!(lines("crates/trefoil/Cargo.toml", manifest), [0usize; 0]);
        assert_eq!(lines("crates/simulator/Cargo.toml", manifest), [0usize; 0]);
        assert_eq!(lines("crates/tidy/Cargo.toml", manifest), [3]);
        let back = "[dependencies]\nsimulator = { path = \"../simulator\" }\n";
        assert_eq!(lines("crates/replication/Cargo.toml", back), [2]);
        assert_eq!(lines("crates/another/Cargo.toml", ""), [1]);
    }

    #[test]
    fn only_the_command_line_names_the_simulator() {
        let text = "use simulator::cli;\n// simulator\n";
        assert_eq!(lines("crates/trefoil/src/cli/sim.rs", text), [0usize; 0]);
        assert_eq!(lines("crates/trefoil/src/server.rs", text), [1]);
    }

    #[test]
    fn a_model_names_no_other_and_what_they_share_names_none() {
        let text = "use crate::leaderless::message;\n// multi_leader::x\nlet leaderless = 3;\n";
        assert_eq!(lines("crates/replication/src/leaderless/mod.rs", text), [0usize; 0]);
        assert_eq!(lines("crates/replication/src/leader_follower/acks.rs", text), [1]);
        assert_eq!(lines("crates/replication/src/quorum.rs", text), [1]);
        assert_eq!(lines("crates/replication/src/node/mod.rs", text), [0usize; 0]);
        assert_eq!(lines("crates/replication/src/lib.rs", text), [0usize; 0]);
    }
}

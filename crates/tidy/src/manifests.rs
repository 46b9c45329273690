//! Every dependency has its reason, in a line above it; and all come from the public registry.

use crate::{Failure, Source};

const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// All rules of this page.
pub fn check(source: &Source) -> Vec<Failure> {
    let mut failures = Vec::new();
    if source.is("Cargo.toml") {
        reasons(source, &mut failures);
    }
    if source.is(".toml") {
        own_registries(source, &mut failures);
    }
    if source.is("Cargo.lock") {
        locked_sources(source, &mut failures);
    }
    failures
}

fn reasons(source: &Source, failures: &mut Vec<Failure>) {
    let mut in_dependencies = false;
    let mut depth = 0usize;
    let mut above = "";
    for (number, line) in source.text.lines().enumerate() {
        let outermost = depth == 0;
        depth += line.matches(['[', '{']).count();
        depth = depth.saturating_sub(line.matches([']', '}']).count());
        let table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let mut needs_reason = false;
        if let Some(table) = table {
            in_dependencies = table.ends_with("dependencies");
            needs_reason = table.contains("dependencies.");
        } else if in_dependencies && outermost {
            let is_entry = line.starts_with(|letter: char| letter.is_ascii_alphanumeric());
            let is_own = line.contains("workspace = true") || line.contains("path = ");
            needs_reason = is_entry && !is_own;
        }
        if needs_reason && !above.starts_with("# ") {
            let rule = "a dependency has its reason in a comment line above it";
            failures.push(Failure::new(source, number + 1, rule));
        }
        above = line;
    }
}

fn own_registries(source: &Source, failures: &mut Vec<Failure>) {
    for (number, line) in source.text.lines().enumerate() {
        let tables = ["[source", "[registries", "[registry"];
        if tables.iter().any(|table| line.trim_start().starts_with(table)) {
            let rule = "which registry a machine uses is that machine's affair";
            failures.push(Failure::new(source, number + 1, rule));
        }
    }
}

fn locked_sources(source: &Source, failures: &mut Vec<Failure>) {
    for (number, line) in source.text.lines().enumerate() {
        let Some(place) = line.strip_prefix("source = ") else { continue };
        if place.trim_matches('"') != PUBLIC {
            let rule = format!("dependencies come from the public registry, not from {place}");
            failures.push(Failure::new(source, number + 1, rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).into_iter().map(|failure| failure.line).collect()
    }

    #[test]
    fn a_dependency_without_a_reason_is_named() {
        let good = "[features]\nx = []\n[dependencies]\n# Why.\na = \"1\"\nb.workspace = true\n";
        assert_eq!(lines("crates/a/Cargo.toml", good), [0usize; 0]);
        let bad = "[dev-dependencies]\n# Why.\na = { version = \"1\", features = [\n\"x\",\n] }\n\
                   b = \"2\"\n\n[dependencies.c]\nversion = \"3\"\n";
        assert_eq!(lines("crates/a/Cargo.toml", bad), [6, 8]);
    }

    #[test]
    fn another_registry_is_named() {
        assert_eq!(lines(".cargo/config.toml", "[alias]\n[source.x]\n"), [2]);
        let lock = format!("source = \"{PUBLIC}\"\nsource = \"registry+https://example.org\"\n");
        assert_eq!(lines("Cargo.lock", &lock), [2]);
    }
}

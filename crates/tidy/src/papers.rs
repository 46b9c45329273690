//! The papers: decisions numbered without gaps, links that lead somewhere, and nothing about the
//! machine that a line was written on.

use crate::{Failure, Source};
use std::path::{Component, Path, PathBuf};

/// All rules of this page; some are about all files together.
pub fn check(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    decisions(sources, &mut failures);
    for source in sources {
        if source.is(".md") {
            links(source, sources, &mut failures);
        }
        if !source.is("Cargo.lock") {
            places(source, &mut failures);
        }
    }
    failures
}

fn decisions(sources: &[Source], failures: &mut Vec<Failure>) {
    let pages = sources.iter().filter_map(|source| {
        let name = source.path.strip_prefix("docs/decisions/")?;
        Some((source, name))
    });
    // Sorted by path, as all sources are.
    for (number, (source, name)) in pages.enumerate() {
        if !name.starts_with(&format!("{number:03}-")) || !name.ends_with(".md") {
            let rule =
                format!("decisions are numbered without gaps: this would be {number:03}-….md");
            failures.push(Failure::new(source, 1, rule));
        }
    }
}

fn links(source: &Source, sources: &[Source], failures: &mut Vec<Failure>) {
    let mut in_code = false;
    for (number, line) in source.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or("");
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
            let wanted = plain(&folder.join(target));
            let is_there = |other: &Source| Path::new(&other.path).starts_with(&wanted);
            if !sources.iter().any(is_there) {
                let rule = format!("the link to `{target}` leads nowhere");
                failures.push(Failure::new(source, number + 1, rule));
            }
        }
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

fn places(source: &Source, failures: &mut Vec<Failure>) {
    // Put together here, so that this file does not name them.
    let places = [concat!("/wo", "rk/"), concat!("/tmp", "/wt"), concat!("/ro", "ot/")];
    for (number, line) in source.text.lines().enumerate() {
        for place in places {
            let is_absolute = |at: usize| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|letter| letter.is_alphanumeric() || "._-/".contains(letter))
            };
            if line.match_indices(place).any(|(at, _)| is_absolute(at)) {
                let rule = format!("no path of a particular machine: `{place}`");
                failures.push(Failure::new(source, number + 1, rule));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_all(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        check(&sources).into_iter().map(|failure| (failure.path, failure.line)).collect()
    }

    #[test]
    fn decisions_have_no_gaps() {
        let good = [("docs/decisions/000-a.md", ""), ("docs/decisions/001-b.md", "")];
        assert_eq!(check_all(&good), []);
        let bad = [("docs/decisions/000-a.md", ""), ("docs/decisions/002-b.md", "")];
        assert_eq!(check_all(&bad), [("docs/decisions/002-b.md".into(), 1)]);
    }

    #[test]
    fn links_lead_somewhere() {
        let page = "[a](b.md#x) [c](../README.md) [d](https://e.org) [f](#g) [h](sub)\n\
                    ```\n[x](nowhere.md)\n```\n[y](gone.md)\n";
        let files =
            [("docs/a.md", page), ("docs/b.md", ""), ("README.md", ""), ("docs/sub/c.md", "")];
        assert_eq!(check_all(&files), [("docs/a.md".into(), 5)]);
    }

    #[test]
    fn paths_of_a_machine_are_named() {
        let path = concat!("/wo", "rk/x");
        assert_eq!(check_all(&[("a.rs", &format!("ok\ncat {path}\n"))]), [("a.rs".into(), 2)]);
        assert_eq!(check_all(&[("a.rs", &format!("a{path}\n"))]), []);
    }
}

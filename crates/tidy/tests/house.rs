//! The house rules, applied to this repository.
#![allow(clippy::expect_used)]

use tidy::{Failure, Source, arrows, manifests, papers, root, shape, sources};

fn all() -> Vec<Source> {
    let sources = sources(&root()).expect("the repository can be read");
    assert!(sources.iter().any(|source| source.path == "crates/tidy/tests/house.rs"));
    sources
}

fn none(failures: &[Failure]) {
    let lines: Vec<String> = failures.iter().map(Failure::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn lines_functions_and_files_are_small_and_finished() {
    none(&all().iter().flat_map(shape::check).collect::<Vec<_>>());
}

#[test]
fn crates_and_models_name_only_whom_they_may() {
    none(&all().iter().flat_map(arrows::check).collect::<Vec<_>>());
}

#[test]
fn dependencies_have_reasons() {
    none(&all().iter().flat_map(manifests::check).collect::<Vec<_>>());
}

#[test]
fn papers_are_whole() {
    none(&papers::check(&all()));
}

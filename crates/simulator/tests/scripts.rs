//! Plays every golden script.
#![allow(clippy::expect_used)]

use simulator::script::play;
use std::path::Path;

#[test]
fn every_script_comes_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the scripts' folder")
        .map(|entry| entry.expect("a script").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        if let Err((error, trace)) = play(&text) {
            let lines = trace.lines();
            let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or(lines).join("\n");
            failures.push(format!("{}: {error}\n{last}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

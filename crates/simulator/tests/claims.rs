//! What `trefoil explain` claims, it claims in the name of checkers: each of them exists.

use replication::keyspace::guarantees::CHECKERS;
use std::path::Path;

#[test]
fn every_checker_that_a_claim_names_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checkers");
    for checker in CHECKERS {
        let path = folder.join(format!("{checker}.rs"));
        assert!(path.is_file(), "a claim names {checker}, and there is no {}", path.display());
    }
}

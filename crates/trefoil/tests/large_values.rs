//! A value that grows past what one node can tell another is refused, and stops nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{Client, Cluster, eventually};

/// Appended so often that the value would pass the limit of 16 MiB, and then any frame's.
const PART_BYTES: usize = 7_000_000;

#[test]
fn a_value_grows_to_its_limit_and_no_further_and_its_keyspace_goes_on() {
    let cluster = Cluster::start(&["--datacenters", "eu", "--nodes", "3"]);
    let nodes = cluster.nodes();
    eventually("a leader", || cluster.leader(&nodes[0], "user:"));
    let part = "x".repeat(PART_BYTES);
    for prefix in ["user:", "cart:"] {
        let (mut client, key) = (Client::of(&nodes[0]), format!("{prefix}long"));
        eventually("the key can be written", || client.set(&key, "").then_some(()));
        let append = |client: &mut Client| client.call::<u64>("APPEND", &[&key, &part]);
        for parts in 1..=2 {
            let wanted = parts * PART_BYTES as u64;
            // A slow machine may change leaders meanwhile. Where that leaves the outcome open, the
            // length that the next leader shows tells it: before that, it answers nobody.
            eventually("a part is appended", || match append(&mut client) {
                Ok(length) => {
                    assert_eq!(length, wanted);
                    Some(())
                }
                Err(error) if error.code() == Some("UNKNOWN") => {
                    let length =
                        eventually("a length", || client.call::<u64>("STRLEN", &[&key]).ok());
                    (length == wanted).then_some(())
                }
                Err(error) => {
                    let is_passing = ["CLUSTERDOWN", "TRYAGAIN"].map(Some).contains(&error.code());
                    assert!(is_passing, "{error}");
                    None
                }
            });
        }
        for _ in 0..8 {
            let error = append(&mut client).unwrap_err().to_string();
            assert!(error.contains("exceeds maximum allowed size"), "{error}");
        }
        let error = client.call::<u64>("SETRANGE", &[&key, "100000000", "x"]).unwrap_err();
        assert!(error.to_string().contains("exceeds maximum allowed size"), "{error}");
        assert!(client.set(&format!("{prefix}other"), "written"));
        assert_eq!(client.call::<u64>("STRLEN", &[&key]).unwrap(), 2 * PART_BYTES as u64);
    }
}

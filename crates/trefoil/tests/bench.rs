//! `trefoil bench` against a real cluster: any model's keys, the figures, what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::net::TcpListener;
use support::{Client, Cluster, eventually, run};

/// Runs a bench that must succeed; its figures.
fn bench(addresses: &str, arguments: &str) -> Value {
    let words = ["bench", "--addr", addresses, "--json"];
    let words: Vec<&str> = words.into_iter().chain(arguments.split_whitespace()).collect();
    let output = run(&words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_models_keys_can_be_measured_on_all_nodes() {
    let cluster = Cluster::start(&["--datacenters", "eu"]);
    let nodes = cluster.nodes();
    let mut client = Client::of(&nodes[0]);
    for prefix in ["user:", "cart:", "session:"] {
        let key = format!("{prefix}there");
        eventually("a keyspace takes writes", || client.set(&key, "x").then_some(()));
    }
    let addresses: Vec<&str> = nodes.iter().map(|node| node.client.as_str()).collect();
    let addresses = addresses.join(",");
    let pids: Vec<String> = nodes.iter().map(|node| node.pid.to_string()).collect();
    let pids = pids.join(",");
    for prefix in ["user:", "cart:", "session:"] {
        let figures = bench(
            &addresses,
            &format!(
                "--command mixed:50 --prefix {prefix} --keys 300 --key-bytes 4 --clients 6 \
                 --pipeline 4 --requests 3000 --warm-up-seconds 0.2 --fill --pid {pids}"
            ),
        );
        assert_eq!(figures["operations"], 3000, "{figures}");
        assert_eq!(figures["errors"], 0, "{figures}");
        assert_eq!(figures["misses"], 0, "{figures}");
        assert_eq!(figures["first_error"], Value::Null);
        assert_eq!((&figures["loop"], &figures["prefix"]), (&"closed".into(), &prefix.into()));
        let number = |name: &str| figures[name].as_f64().expect(name);
        assert!(number("ops_per_second") > 0.0 && number("seconds") > 0.0);
        assert!(number("p50_us") > 0.0 && number("p50_us") <= number("p99_us"));
        assert!(number("p99_us") <= number("p999_us") && number("p999_us") <= number("max_us"));
        assert!(number("server_cpu_us_per_op") > 0.0 && number("client_cpu_us_per_op") > 0.0);
        assert!(number("rss_bytes_before") > 1e6 && number("rss_bytes_after") > 1e6);
        assert!((0.0..=100.0).contains(&number("other_cpu_percent")), "{figures}");
    }

    let leader = eventually("a leader of user:", || cluster.leader(&nodes[0], "user:"));
    let figures = bench(
        &leader.client,
        "--prefix user: --keys 50 --clients 2 --rate 400 --seconds 1 --warm-up-seconds 0",
    );
    assert_eq!((&figures["loop"], &figures["operations"]), (&"open".into(), &400.into()));
    let arguments =
        ["bench", "--addr", &leader.client, "--prefix", "user:", "--then", "WAIT 1 5000"];
    let more = ["--requests", "500", "--clients", "5", "--warm-up-seconds", "0"];
    let output = run(&[&arguments[..], &more].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    for words in ["op/s", "p99.9 us", "closed loop", "set, then WAIT 1 5000"] {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
    let errors = text.lines().find(|line| line.trim_start().starts_with("errors")).unwrap();
    assert_eq!(errors.split_whitespace().last(), Some("0"), "{text}");

    let before = client.call::<u64>("DBSIZE", &[]).unwrap();
    let figures = bench(&addresses, "--prefix user:new: --keys 700 --fill-only --clients 3");
    assert_eq!(figures["operations"], 700);
    let all = || client.call::<u64>("DBSIZE", &[]).ok().filter(|now| *now == before + 700);
    eventually("every key was written once", all);
}

#[test]
fn what_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = run(&["bench", "--addr", &address, "--seconds", "1"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&address) && text.contains("refused"), "{text}");
}

//! What the configuration accepts and refuses, and that its page describes every option.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{Config, only_keyspaces};
use replication::NodeId;
use replication::keyspace::{AckLevel, Acks, Durability, Failover, MissingAcks, Model, Reads};

const NODES: &str = r#"
[cluster]
name = "test"
secret = "00000000000000ff"

[[node]]
name = "us-1"
datacenter = "us"
client = "127.0.0.1:7002"
peer = "127.0.1.2:7102"

[[node]]
name = "eu-1"
datacenter = "eu"
client = "127.0.0.1:7001"
peer = "127.0.1.1:7101"

[[node]]
name = "us-2"
datacenter = "us"
client = "127.0.0.1:7003"
peer = "127.0.1.3:7103"
"#;

/// The keyspaces first, so that their lines can be counted.
fn parse(keyspaces: &str) -> Result<Config, String> {
    Config::parse("test.toml", &format!("{keyspaces}{NODES}")).map_err(|error| {
        let helps: Vec<_> = error.problems().iter().filter_map(|p| p.help.clone()).collect();
        format!("{error}\n{}", helps.join("\n"))
    })
}

fn refused(keyspaces: &str, words: &[&str]) {
    let error = parse(keyspaces).expect_err("it is refused");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in:\n{error}");
    }
}

fn model(config: &Config, prefix: &str) -> Model {
    let found = config.cluster.keyspaces.iter().find(|k| k.prefix == prefix.as_bytes());
    found.expect("the keyspace exists").model.clone()
}

#[test]
fn nodes_are_sorted_by_name_and_datacenters_keep_the_order_of_the_file() {
    let config = parse("").unwrap();
    let names: Vec<&str> = config.cluster.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["eu-1", "us-1", "us-2"]);
    assert_eq!(config.cluster.datacenters, ["us", "eu"]);
    assert_eq!(config.cluster.secret, 255);
    assert_eq!(config.addresses_of(NodeId(0)).unwrap().client.port(), 7001);
    assert_eq!(config.addresses_of(NodeId(2)).unwrap().peer.to_string(), "127.0.1.3:7103");
}

#[test]
fn the_empty_prefix_always_exists() {
    let Model::LeaderFollower(model) = model(&parse("").unwrap(), "") else { panic!("model") };
    assert_eq!((model.home.0, model.partitions), (0, 1));
    assert_eq!((model.group.replicas, model.group.acks), (2, Acks::Majority));
    assert_eq!(model.group.durability, Durability::Fsync);
}

#[test]
fn defaults_follow_from_the_other_options() {
    let config = parse(concat!(
        "[[keyspace]]\nprefix = \"a:\"\nmodel = \"leader-follower\"\nacks = \"async\"\n",
        "[[keyspace]]\nprefix = \"b:\"\nmodel = \"leader-follower\"\nacks = 2\nhome = \"us\"\n",
        "reads = \"follower\"\n",
        "[[keyspace]]\nprefix = \"c:\"\nmodel = \"leaderless\"\nw = 3\n",
        "durability = \"interval-1s\"\n",
        "[[keyspace]]\nprefix = \"d:\"\nmodel = \"multi-leader\"\n",
    ))
    .unwrap();
    let Model::LeaderFollower(a) = model(&config, "a:") else { panic!("model") };
    assert_eq!((a.group.acks, a.group.failover), (Acks::Async, Failover::Available));
    let Model::LeaderFollower(b) = model(&config, "b:") else { panic!("model") };
    assert_eq!((b.group.acks, b.group.failover), (Acks::Exactly(2), Failover::Safe));
    assert_eq!(b.group.reads, Reads::Follower);
    let Model::Leaderless(c) = model(&config, "c:") else { panic!("model") };
    assert_eq!((c.n, c.w, c.r, c.partitions), (3, 3, 2, 64));
    assert_eq!(c.durability, Durability::Interval);
    assert_eq!((b.group.ack_level, b.group.weaker_acks), (AckLevel::Durable, false));
    let Model::MultiLeader(d) = model(&config, "d:") else { panic!("model") };
    assert_eq!((d.datacenters.len(), d.group.replicas), (2, 1));
}

#[test]
fn cluster_clients_see_the_empty_prefix_or_the_one_that_is_named() {
    let keyspaces = "[[keyspace]]\nprefix = \"user:\"\nmodel = \"leaderless\"\n";
    let seen = |option: &str| {
        let nodes = NODES.replace("[cluster]", &format!("[cluster]\n{option}"));
        let config = Config::parse("test.toml", &format!("{keyspaces}{nodes}"));
        config.map_err(|error| error.to_string()).map(|config| {
            let id = config.slots_keyspace;
            config.cluster.keyspace(id).unwrap().prefix.clone()
        })
    };
    assert_eq!(seen(""), Ok(b"".to_vec()));
    assert_eq!(seen("slots-keyspace = \"user:\""), Ok(b"user:".to_vec()));
    let error = seen("slots-keyspace = \"cart:\"").unwrap_err();
    assert!(error.contains("test.toml:6") && error.contains("`cart:`"), "{error}");
}

#[test]
fn how_writers_are_acknowledged() {
    let config = parse(concat!(
        "[[keyspace]]\nprefix = \"a:\"\nmodel = \"leader-follower\"\nacks = \"sync\"\n",
        "when-acks-are-missing = \"degrade\"\nweaker-acks = true\n",
        "[[keyspace]]\nprefix = \"b:\"\nmodel = \"multi-leader\"\nack-level = \"applied\"\n",
    ))
    .unwrap();
    let Model::LeaderFollower(a) = model(&config, "a:") else { panic!("model") };
    assert_eq!((a.group.missing_acks, a.group.weaker_acks), (MissingAcks::Degrade, true));
    let Model::MultiLeader(b) = model(&config, "b:") else { panic!("model") };
    assert_eq!(b.group.ack_level, AckLevel::Applied);
    let keyspace = |model: &str, lines: &str| {
        format!("[[keyspace]]\nprefix = \"\"\nmodel = \"{model}\"\n{lines}\n")
    };
    let lf = "leader-follower";
    let level = keyspace(lf, "ack-level = \"disk\"");
    refused(&level, &["test.toml:4:", "\"received\" or \"durable\" or \"applied\""]);
    refused(&keyspace(lf, "weaker-acks = \"yes\""), &["test.toml:4:", "boolean"]);
    refused(&keyspace("leaderless", "ack-level = \"durable\""), &["test.toml:4:", "not an option"]);
    let both = keyspace(lf, "ack-level = \"received\"\nwhen-acks-are-missing = \"degrade\"");
    refused(&both, &["test.toml:5:", "degrade lowers the number of durable copies"]);
}

#[test]
fn an_unknown_option_is_named_with_its_line_and_the_options_that_exist() {
    let text = "[[keyspace]]\nprefix = \"a:\"\nmodel = \"leaderless\"\nreplica = 3\n";
    refused(text, &["test.toml:4: unknown option `replica`", "`replicas`", "`durability`"]);
    refused("[servr]\nnode = \"a\"\n", &["test.toml:1: unknown option `servr`", "`server`"]);
}

#[test]
fn what_is_not_built_yet_is_not_called_unknown() {
    for option in ["sloppy = true", "strict = true", "read-replicas = { us = 1 }"] {
        let name = option.split(' ').next().unwrap();
        let text = format!("[[keyspace]]\nprefix = \"\"\nmodel = \"leaderless\"\n{option}\n");
        refused(&text, &[&format!("test.toml:4: `{name}` is not available in this version")]);
    }
    for (model, option) in [
        ("leader-follower", "reads = \"nearest\""),
        ("multi-leader", "conflicts = \"siblings\""),
        ("multi-leader", "conflicts = \"merge\""),
    ] {
        let text = format!("[[keyspace]]\nprefix = \"\"\nmodel = \"{model}\"\n{option}\n");
        refused(&text, &[&format!("test.toml:4: `{option}` is not available in this version")]);
    }
}

#[test]
fn bad_values_are_named_with_their_line() {
    let keyspace = |line: &str, model: &str| {
        format!("[[keyspace]]\nprefix = \"\"\nmodel = \"{model}\"\n{line}\n")
    };
    let lf = "leader-follower";
    refused(&keyspace("replicas = 0", lf), &["test.toml:4:", "from 1 to 99, not 0"]);
    refused(&keyspace("replicas = \"3\"", lf), &["test.toml:4:", "string"]);
    refused(
        &keyspace("acks = \"all\"", lf),
        &["test.toml:4: `acks` cannot be \"all\"", "semi-sync"],
    );
    refused(&keyspace("home = \"asia\"", lf), &["test.toml:4: no node is in", "us, eu"]);
    refused(&keyspace("w = 2", lf), &["test.toml:4: `w` is not an option of a leader-follower"]);
    refused(&keyspace("acks = 2", "leaderless"), &["test.toml:4: `acks` is not an option"]);
    refused(
        &keyspace("datacenters = []", "multi-leader"),
        &["test.toml:4: `datacenters` is empty"],
    );
    refused(&keyspace("", "leader"), &["test.toml:3: unknown replication model `leader`"]);
    refused("[[keyspace]]\nmodel = \"leaderless\"\n", &["test.toml:1:", "`prefix`"]);
    let two = "[[keyspace]]\nprefix = \"a\"\nmodel = \"leaderless\"\n".repeat(2);
    refused(&two, &["test.toml:5: two keyspaces have the prefix \"a\""]);
    refused("[server]\nnode = \"eu-9\"\n", &["test.toml:2: no `[[node]]` is named `eu-9`", "us-2"]);
}

#[test]
fn several_problems_are_shown_at_once() {
    let text = "[[keyspace]]\nprefix = \"\"\nmodel = \"leaderless\"\nn = 0\nw = -1\n";
    refused(text, &["test.toml:4: `n`", "test.toml:5: `w`"]);
}

#[test]
fn bad_nodes_are_named_with_their_line() {
    for (from, to, words) in [
        ("127.0.0.1:7002", "localhost", "test.toml:9: `localhost` is not an address"),
        ("127.0.0.1:7002", "127.0.0.1:7001", "is already node `eu-1`'s"),
        ("\"eu-1\"", "\"us-1\"", "two nodes are named `us-1`"),
        ("\"eu-1\"", "\"../up\"", "`../up` is not a node's name"),
        ("00000000000000ff", "ff", "has to be 16 hexadecimal digits, not `ff`"),
        ("[cluster]\nname = \"test\"\nsecret = \"00000000000000ff\"", "", "`[cluster]` is missing"),
        ("secret = \"00000000000000ff\"", "", "`secret` is missing"),
    ] {
        let error = Config::parse("test.toml", &NODES.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(words), "`{words}` is not in:\n{error}");
    }
}

#[test]
fn contradictions_are_refused_at_the_line_of_their_keyspace() {
    let keyspace = |options: &str, model: &str| {
        format!("# comment\n\n[[keyspace]]\nprefix = \"a:\"\nmodel = \"{model}\"\n{options}\n")
    };
    refused(&keyspace("w = 4", "leaderless"), &["test.toml:6: keyspace \"a:\", w:"]);
    refused(&keyspace("n = 4", "leaderless"), &["test.toml:6:", "a:", "3"]);
    refused(&keyspace("replicas = 2\nacks = 3", "leader-follower"), &["test.toml:7:", "acks"]);
    refused(&keyspace("replicas = 3", "leader-follower"), &["test.toml:6:", "us"]);
}

#[test]
fn a_file_for_dev_holds_only_keyspaces() {
    only_keyspaces("k.toml", "[[keyspace]]\nprefix = \"a:\"\nmodel = \"leaderless\"\n").unwrap();
    let error = only_keyspaces("k.toml", NODES).unwrap_err().to_string();
    assert!(error.contains("k.toml:2: `[cluster]` has no place here"), "{error}");
    assert!(error.contains("k.toml:6: `[[node]]` has no place here"), "{error}");
}

/// Serde lists a table's options when it meets one that is not among them: the list is the code's.
fn options_of(table: &str) -> Vec<String> {
    let error = super::file::parse(&format!("{table}\nno-such-option = 1\n")).unwrap_err();
    let list = error.help.expect("the options are listed");
    let quoted = list.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn the_page_describes_every_option_in_its_section() {
    let page = include_str!("../../../../docs/configuration.md");
    for table in ["[cluster]", "[[node]]", "[server]", "[[keyspace]]"] {
        let start = page.find(&format!("## `{table}`")).expect("the table has a section");
        let section = page[start + 3..].split("\n## ").next().unwrap();
        let options = options_of(table);
        assert!(options.len() >= 2, "{options:?}");
        for option in options {
            let row = format!("| `{option}` |");
            assert!(section.contains(&row), "`{option}` of {table} has no row in the page");
        }
        for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
            let name = row.split('`').next().unwrap();
            assert!(options_of(table).iter().any(|o| o == name), "`{name}` does not exist");
        }
    }
}

#[test]
fn the_pages_examples_can_be_used() {
    let page = include_str!("../../../../docs/configuration.md");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let text = block.split("```").next().unwrap();
        let name = "docs/configuration.md";
        let result = match text.contains("[[node]]") {
            true => Config::parse(name, text).map(drop),
            false => only_keyspaces(name, text)
                .and_then(|()| Config::parse(name, &format!("{text}{NODES_3X2}")).map(drop)),
        };
        result.unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

const NODES_3X2: &str = r#"
[cluster]
name = "six"
secret = "0123456789abcdef"
[[node]]
name = "eu-1"
datacenter = "eu"
client = "127.0.0.1:7001"
peer = "127.0.1.1:7101"
[[node]]
name = "eu-2"
datacenter = "eu"
client = "127.0.0.1:7002"
peer = "127.0.1.2:7102"
[[node]]
name = "eu-3"
datacenter = "eu"
client = "127.0.0.1:7003"
peer = "127.0.1.3:7103"
[[node]]
name = "us-1"
datacenter = "us"
client = "127.0.0.1:7004"
peer = "127.0.1.4:7104"
[[node]]
name = "us-2"
datacenter = "us"
client = "127.0.0.1:7005"
peer = "127.0.1.5:7105"
[[node]]
name = "us-3"
datacenter = "us"
client = "127.0.0.1:7006"
peer = "127.0.1.6:7106"
"#;

//! What the command line refuses, and in which words: nothing starts, and the text says why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use support::run;

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs the program, which must fail and say these words.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} is not refused");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in the text of {arguments:?}:\n{text}");
    }
}

const KEYSPACE: &str = "[[keyspace]]\nprefix = \"session:\"\nmodel = \"leaderless\"\n";

#[test]
fn a_bad_configuration_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    for (options, words) in [
        ("w = 4\n", "bad.toml:4"),
        ("replica = 3\n", "unknown option `replica`"),
        ("sloppy = true\n", "`sloppy` is not available in this version"),
        ("acks = 2\n", "`acks` is not an option of a leaderless keyspace"),
        ("n = \"3\"\n", "it is a number, without quotes"),
        ("durability = true\n", "`durability` is \"fsync\" or \"interval-1s\""),
        ("durability = \"no\"\n", "`durability` is \"fsync\" or \"interval-1s\""),
        ("n = \n", "bad.toml:4"),
    ] {
        let file = write(directory.path(), "bad.toml", &format!("{KEYSPACE}{options}"));
        let file = file.to_str().unwrap();
        refused(&["explain", "--config", file], &[words, "bad.toml:4"]);
        let data = directory.path().join("data");
        let data = data.to_str().unwrap();
        refused(&["dev", "--config", file, "--data", data], &[words, "bad.toml:4"]);
        assert_eq!(std::fs::read_dir(data).unwrap().count(), 0, "nothing was made");
    }
}

#[test]
fn what_explain_says_of_a_file_without_nodes_is_about_that_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "bad.toml", &format!("[cluster]\nname = \"x\"\n{KEYSPACE}"));
    refused(&["explain", "--config", file.to_str().unwrap()], &["bad.toml", "[[node]]"]);
}

#[test]
fn a_datacenter_that_no_node_is_in_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[keyspace]]\nprefix = \"a:\"\nmodel = \"leader-follower\"\nhome = \"asia\"\n";
    let file = write(directory.path(), "bad.toml", text);
    let words = ["bad.toml:4: no node is in the datacenter `asia`", "eu, us"];
    refused(&["dev", "--config", file.to_str().unwrap()], &words);
}

#[test]
fn a_port_in_use_is_named_before_anything_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = ["dev", "--nodes", "1", "--port", &port, "--data", data.to_str().unwrap()];
    refused(&arguments, &[&format!("port {port} "), "eu-1", "--port"]);
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "eu-1" || name == "cluster.toml"), "{left:?}");
}

#[test]
fn servers_are_named_the_same_way_everywhere() {
    for task in [&["bench"][..], &["check"], &["status"], &["rehearse", "--timeout", "500ms"]] {
        let arguments = [task, &["--addr", "nowhere"]].concat();
        refused(&arguments, &["--addr: `nowhere` is no address", "127.0.0.1:7001"]);
    }
    for place in [&["--addr", "localhost:1"][..], &["--host", "localhost", "--port", "1"]] {
        refused(&[&["status"], place].concat(), &["no node answers at", ":1"]);
    }
    refused(&["status", "--host", "localhost"], &["--port"]);
    refused(&["status", "--addr", "localhost:1", "--port", "1"], &["cannot be used with"]);
}

#[test]
fn a_command_that_is_none_is_no_command_behind_each_batch() {
    refused(&["bench", "--then", ""], &["--then: no command is named"]);
    refused(&["bench", "--then", "  "], &["--then: no command is named"]);
}

#[test]
fn a_cluster_of_no_shape_is_refused() {
    refused(&["dev", "--nodes", "0"], &["1 to 100 nodes, not 0"]);
    refused(&["dev", "--nodes", "51"], &["1 to 100 nodes, not 102"]);
    refused(&["dev", "--datacenters", "eu,eu"], &["`eu` is listed twice"]);
    refused(&["dev", "--datacenters", "eu,../us"], &["`../us` is not a name"]);
    refused(&["dev", "--port", "65500"], &["--port: 65500 is not between 1 and 65430"]);
    refused(&["dev", "--port", "0"], &["--port: 0 is not between"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "thesis.txt", "precious");
    let path = directory.path().to_str().unwrap();
    refused(&["dev", "--data", path], &["is not empty, and no `trefoil dev` has made it"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_kept_cluster_keeps_its_shape() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "{KEYSPACE}n = 1\nw = 1\nr = 1\n\n[cluster]\nname = \"dev\"\nsecret = \"{:016x}\"\n\n\
         [[node]]\nname = \"eu-1\"\ndatacenter = \"eu\"\nclient = \"127.0.0.1:17001\"\n\
         peer = \"127.0.0.1:17101\"\n",
        7
    );
    write(directory.path(), "cluster.toml", &text);
    let data = directory.path().to_str().unwrap();
    refused(&["dev", "--data", data, "--nodes", "2"], &["--nodes 2 contradicts", "1 in each"]);
    refused(&["dev", "--data", data, "--port", "9000"], &["--port 9000 contradicts", "17001"]);
    refused(&["dev", "--data", data, "--datacenters", "us"], &["--datacenters us contradicts"]);
    let other = tempfile::tempdir().unwrap();
    let file = write(other.path(), "k.toml", "[[keyspace]]\nprefix=\"x\"\nmodel=\"leaderless\"\n");
    let arguments = ["dev", "--data", data, "--config", file.to_str().unwrap()];
    refused(&arguments, &["--config", "contradicts"]);
}

#[test]
fn a_node_is_asked_for_in_vain_where_nothing_runs() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    refused(&["dev", "--restart", "eu-1", "--data", data], &["no `trefoil dev` runs in"]);
    refused(&["dev", "--restart", "eu-1"], &["--data"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    refused(&["status", "--port", &free.to_string()], &["no node answers at 127.0.0.1"]);
}

#[test]
fn check_says_what_it_cannot_check() {
    refused(&["check", "--model", "leaderless"], &["only leader-follower"]);
    refused(&["check", "--model", "x"], &["`x` is no model"]);
    refused(&["check", "--addr", "nowhere"], &["--addr: `nowhere` is no address"]);
    refused(&["check", "--seconds", "0"], &["--seconds"]);
    refused(&["check", "--clients", "0"], &["--clients"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    refused(&["check", "--addr", &free], &["no Trefoil node answers at", &free]);
}

#[test]
fn serve_wants_to_know_which_node_it_is_and_where_its_data_lies() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[cluster]\nname = \"a\"\nsecret = \"0000000000000001\"\n[[node]]\nname = \"one\"\n\
                datacenter = \"eu\"\nclient = \"127.0.0.1:17002\"\npeer = \"127.0.0.1:17102\"\n";
    let file = write(directory.path(), "one.toml", text);
    let file = file.to_str().unwrap();
    refused(&["serve", "--config", file], &["which node is this?", "--node NAME"]);
    refused(&["serve", "--config", file, "--node", "two"], &["no node named `two`", "one"]);
    refused(&["serve", "--config", file, "--node", "one"], &["where does its data lie?"]);
    refused(&["serve", "--config", "nowhere.toml"], &["nowhere.toml", "cannot be read"]);
}

#[test]
fn explain_names_every_keyspace() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "k.toml", KEYSPACE);
    let output = run(&["explain", "--config", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("session:") && text.contains("leaderless"), "{text}");
}

//! `trefoil check` against clusters that keep their promises, and against nodes that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use support::{Client, Cluster, eventually, run, trefoil};

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

#[test]
fn a_cluster_whose_leader_is_killed_passes_and_keeps_nothing_of_the_run() {
    let cluster = Cluster::start(&["--datacenters", "eu"]);
    let nodes = cluster.nodes();
    let leader = eventually("a leader of user:", || cluster.leader(&nodes[0], "user:"));
    let history = cluster.directory().join("history.json");
    let mut check = trefoil();
    check.args(["check", "--addr", &nodes[1].client, "--prefix", "user:", "--seconds", "8"]);
    check.arg("--json").arg(&history);
    let check = check.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let check = check.spawn().unwrap();

    let survivor = nodes.iter().find(|node| node.name != leader.name).unwrap();
    let mut client = Client::of(survivor);
    let mut keys = || client.call::<i64>("DBSIZE", &[]).ok();
    eventually("keys are written", || keys().filter(|count| *count > 0));
    cluster.kill(&leader);
    eventually("another leads", || {
        cluster.leader(survivor, "user:").filter(|new| new.name != leader.name)
    });
    cluster.restart(&leader.name);

    let output = check.wait_with_output().unwrap();
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("nothing is wrong") && told.contains("acks semi-sync"), "{told}");
    let json: Value = serde_json::from_slice(&std::fs::read(&history).unwrap()).unwrap();
    assert!(json["summary"]["failovers_us"].as_array().is_some_and(|f| !f.is_empty()), "{told}");
    let operations = json["operations"].as_array().unwrap();
    assert_eq!(json["summary"]["operations"], operations.len());
    eventually("the keys of the run are gone", || keys().filter(|count| *count == 0));
}

/// A node that is alone, and forgets every so-manieth write that it acknowledges.
struct Liar {
    address: SocketAddr,
    reads: &'static str,
}

#[derive(Default)]
struct Memory {
    values: BTreeMap<String, String>,
    writes: u64,
}

impl Liar {
    fn start(forgets_every: u64, acks: usize) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let liar = Liar { address: listener.local_addr().unwrap(), reads: "leader" };
        let status = liar.status(acks);
        let memory = Arc::new(Mutex::new(Memory::default()));
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (memory, status) = (Arc::clone(&memory), status.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(&stream, &memory, &status, forgets_every));
            }
        });
        liar
    }

    fn status(&self, acks: usize) -> String {
        format!(
            r#"{{"node":"n1","members":[{{"name":"n1","datacenter":"eu","client":"{}"}}],
            "keyspaces":[{{"prefix":"","model":"leader-follower",
              "options":{{"acks":"{acks}","failover":"available","reads":"{}"}},
              "quorum":{{"replicas":3,"acks":{acks},"election":2,"commit":2}},
              "groups":[{{"partition":0,"role":"leader","epoch":1}}]}}]}}"#,
            self.address, self.reads
        )
    }

    fn check(&self) -> Output {
        let directory = tempfile::tempdir().unwrap();
        let history = directory.path().join("history.json");
        let address = self.address.to_string();
        let arguments = ["check", "--addr", &address, "--seconds", "1", "--json"];
        run(&[&arguments[..], &[history.to_str().unwrap()]].concat())
    }
}

fn serve(stream: &TcpStream, memory: &Mutex<Memory>, status: &str, forgets_every: u64) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(words) = request(&mut reader) {
        let answer = match words[0].as_str() {
            "TF.STATUS" => bulk(Some(status)),
            "TF.LOST" => String::from("-ERR unknown command 'TF.LOST'\r\n"),
            _ => memory.lock().unwrap().answer(&words, forgets_every),
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut bytes = vec![0; length + 2];
        reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        words.push(String::from_utf8(bytes).unwrap());
    }
    Some(words)
}

fn bulk(value: Option<&str>) -> String {
    value.map_or(String::from("$-1\r\n"), |value| format!("${}\r\n{value}\r\n", value.len()))
}

impl Memory {
    fn answer(&mut self, words: &[String], forgets_every: u64) -> String {
        let key = words[1].clone();
        let old = self.values.get(&key).cloned();
        let given = words.get(2).cloned().unwrap_or_default();
        let (new, answer) = match words[0].as_str() {
            "GET" => return bulk(old.as_deref()),
            "SET" => (Some(given), String::from("+OK\r\n")),
            "DEL" => (None, format!(":{}\r\n", i64::from(old.is_some()))),
            "SETNX" => {
                let answer = format!(":{}\r\n", i64::from(old.is_none()));
                (Some(old.unwrap_or(given)), answer)
            }
            "GETSET" => (Some(given), bulk(old.as_deref())),
            "APPEND" => {
                let new = old.unwrap_or_default() + &given;
                let answer = format!(":{}\r\n", new.len());
                (Some(new), answer)
            }
            "INCRBY" => {
                let sum = old.map_or(0, |old| old.parse().unwrap()) + given.parse::<i64>().unwrap();
                (Some(sum.to_string()), format!(":{sum}\r\n"))
            }
            other => panic!("{other}"),
        };
        self.writes += 1;
        if forgets_every == 0 || !self.writes.is_multiple_of(forgets_every) {
            match new {
                Some(value) => self.values.insert(key, value),
                None => self.values.remove(&key),
            };
        }
        answer
    }
}

#[test]
fn a_node_that_forgets_an_acknowledged_write_is_caught() {
    let honest = Liar::start(0, 2).check();
    assert!(honest.status.success(), "{}", text(&honest));

    let liar = Liar::start(40, 2).check();
    let told = text(&liar);
    assert!(!liar.status.success(), "{told}");
    assert!(told.contains("lost write: ") && told.contains("violations"), "{told}");
    assert!(!told.contains("\nlost              0 "), "{told}");

    // Where acknowledged writes may be lost, and nobody can report them, they are only counted.
    let weak = Liar::start(40, 1).check();
    let told = text(&weak);
    assert!(!told.contains("lost write: "), "{told}");
    assert!(!told.contains("\nlost              0 "), "{told}");
}

//! A real cluster for a test: `trefoil dev` on free loopback ports, in a directory that goes when
//! the test ends. Waiting is always for a condition, with a generous deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use redis::{Connection, RedisError, ToRedisArgs};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For anything that has to happen some time: machines that run tests can be very slow.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// For one command of a client: longer than any timeout of the server.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);

/// One cluster at a time: six processes are enough for two cores.
static ONE_CLUSTER: Mutex<()> = Mutex::new(());

/// A running cluster; dropping it ends all its processes.
pub struct Cluster {
    dev: Child,
    directory: PathBuf,
    temporary: TempDir,
    options: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

/// A node as `dev.json` describes it.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub datacenter: String,
    pub client: String,
    pub pid: u32,
}

/// The program under test.
pub fn trefoil() -> Command {
    Command::new(env!("CARGO_BIN_EXE_trefoil"))
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    trefoil().args(arguments).stdin(Stdio::null()).output().expect("the program runs")
}

/// Calls until something is there.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first of a row of ports that are all free: for clients, and 100 higher for peers.
pub fn free_ports(count: u16) -> u16 {
    let is_free = |port: u16| {
        let client = TcpListener::bind(("127.0.0.1", port)).is_ok();
        client && TcpListener::bind(("127.0.0.1", port + 100)).is_ok()
    };
    // Below the ports that systems give to outgoing connections.
    let start = 10_000 + (std::process::id() % 60) as u16 * 300;
    let mut starts = (0..60u16).map(|step| 10_000 + (start - 10_000 + step * 300) % 18_000);
    let free = starts.find(|start| (0..count).all(|number| is_free(start + number)));
    free.expect("there are free ports")
}

impl Cluster {
    /// Starts a cluster with these options besides its ports and directory, and waits for it.
    pub fn start(options: &[&str]) -> Cluster {
        let alone = ONE_CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("cluster");
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        options.extend(["--port".to_owned(), free_ports(6).to_string()]);
        let dev = spawn_dev(&directory, &options);
        let mut cluster = Cluster { dev, directory, temporary, options, _alone: alone };
        cluster.wait_for_start();
        cluster
    }

    /// Ends `dev` with SIGKILL, and waits until the nodes have noticed.
    pub fn kill_dev(&mut self) {
        let nodes = self.nodes();
        self.dev.kill().unwrap();
        self.dev.wait().unwrap();
        for node in nodes {
            eventually("a node ends with its dev", || (!is_running(node.pid)).then_some(()));
        }
        std::fs::remove_file(self.directory.join("dev.json")).unwrap();
    }

    /// Starts `dev` again in the same directory.
    pub fn resume(&mut self) {
        self.dev = spawn_dev(&self.directory, &self.options);
        self.wait_for_start();
    }

    /// Ends `dev` as Ctrl-C would, and waits for it.
    pub fn stop(&mut self) {
        let nodes = self.nodes();
        signal("-TERM", self.dev.id());
        let status = eventually("dev ends", || self.dev.try_wait().unwrap());
        assert!(status.success(), "{status}");
        for node in nodes {
            assert!(!is_running(node.pid), "{node:?} is still running");
        }
    }

    /// All nodes, in order of their ports.
    pub fn nodes(&self) -> Vec<Node> {
        let text = std::fs::read_to_string(self.directory.join("dev.json")).unwrap();
        let nodes: Value = serde_json::from_str(&text).unwrap();
        let text = |node: &Value, key: &str| node[key].as_str().unwrap().to_owned();
        let read = |node: &Value| Node {
            name: text(node, "name"),
            datacenter: text(node, "datacenter"),
            client: text(node, "client"),
            pid: node["pid"].as_u64().unwrap() as u32,
        };
        nodes.as_array().unwrap().iter().map(read).collect()
    }

    /// One node.
    pub fn node(&self, name: &str) -> Node {
        self.nodes().into_iter().find(|node| node.name == name).unwrap()
    }

    /// Where the cluster's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&self, node: &Node) {
        signal("-KILL", node.pid);
        eventually("a killed node is gone", || (!is_running(node.pid)).then_some(()));
    }

    /// Starts a killed node again.
    pub fn restart(&self, name: &str) {
        let directory = self.directory.display().to_string();
        let ask = || {
            let output = run(&["dev", "--restart", name, "--data", &directory]);
            // `dev` may not have noticed yet that the node is down.
            output.status.success().then_some(())
        };
        eventually("a node is started again", ask);
    }

    /// What a node says of its cluster.
    pub fn status(&self, node: &Node) -> Option<Value> {
        let port = node.client.rsplit(':').next().unwrap();
        let output = run(&["status", "--json", "--port", port]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Who leads the first partition of a keyspace, by what a node knows.
    pub fn leader(&self, asked: &Node, prefix: &str) -> Option<Node> {
        let status = self.status(asked)?;
        let keyspaces = status["keyspaces"].as_array()?;
        let keyspace = keyspaces.iter().find(|keyspace| keyspace["prefix"] == prefix)?;
        let leader = keyspace["groups"][0]["leader"].as_str()?;
        self.nodes().into_iter().find(|node| node.name == leader)
    }

    fn wait_for_start(&mut self) {
        let description = self.directory.join("dev.json");
        let deadline = Instant::now() + 3 * DEADLINE;
        while !description.exists() {
            if let Some(status) = self.dev.try_wait().unwrap() {
                panic!("dev ended: {status}\n{}", self.logs());
            }
            assert!(Instant::now() < deadline, "dev does not start\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path().join("log.txt")).unwrap_or_default();
            text.push_str(&format!("--- {}\n{log}", entry.path().display()));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        signal("-TERM", self.dev.id());
        let deadline = Instant::now() + DEADLINE;
        while matches!(self.dev.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

fn spawn_dev(directory: &Path, options: &[String]) -> Child {
    let mut dev = trefoil();
    dev.arg("dev").arg("--data").arg(directory).args(options);
    dev.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Sends a signal to one process; it may have ended.
pub fn signal(signal: &str, pid: u32) {
    let mut kill = Command::new("kill");
    kill.args([signal, &pid.to_string()]).stderr(Stdio::null());
    kill.status().expect("`kill` exists");
}

/// Whether a process exists and has not ended; one that nobody has waited for has ended.
pub fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

/// A client of one node that connects again when it has to.
pub struct Client {
    address: String,
    connection: Option<Connection>,
}

impl Client {
    /// A client of a node.
    pub fn of(node: &Node) -> Client {
        Client { address: format!("redis://{}/", node.client), connection: None }
    }

    /// Sends one command once.
    pub fn call<T: redis::FromRedisValue>(
        &mut self,
        command: &str,
        arguments: &[&str],
    ) -> Result<T, RedisError> {
        if self.connection.is_none() {
            let client = redis::Client::open(self.address.as_str())?;
            let connection = client.get_connection_with_timeout(COMMAND_TIMEOUT)?;
            connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
            connection.set_write_timeout(Some(COMMAND_TIMEOUT))?;
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().unwrap();
        let mut request = redis::cmd(command);
        for argument in arguments {
            argument.write_redis_args(&mut request);
        }
        let answer = request.query(connection);
        if answer.as_ref().is_err_and(|error: &RedisError| error.is_io_error()) {
            self.connection = None;
        }
        answer
    }

    /// A key's value.
    pub fn get(&mut self, key: &str) -> Result<Option<String>, RedisError> {
        self.call("GET", &[key])
    }

    /// Writes a key once; true when it was acknowledged.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        self.call::<()>("SET", &[key, value]).is_ok()
    }
}

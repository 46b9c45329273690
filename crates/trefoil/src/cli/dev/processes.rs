//! The nodes as child processes. Each holds the other end of a pipe as its standard input: when
//! `dev` ends, however it ends, the pipe closes and the node stops.

use super::layout::{DevNode, Layout};
use miette::{IntoDiagnostic, WrapErr};
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the nodes have to end by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Lines of a node's log that are shown when it does not start.
const LOG_LINES_SHOWN: usize = 12;

/// The program as it was called, for commands to copy: it need not be on the search path.
pub fn program() -> String {
    std::env::args().next().unwrap_or_else(|| String::from("trefoil"))
}

/// All nodes of a `dev` cluster.
pub struct Processes {
    program: PathBuf,
    directory: PathBuf,
    processes: Vec<Process>,
}

struct Process {
    node: DevNode,
    pid: u32,
    /// `None` while the node is down.
    child: Option<Child>,
}

impl Processes {
    /// Starts all nodes.
    pub fn start(layout: &Layout) -> miette::Result<Processes> {
        // Taken now: a build may replace the file later.
        let program = std::env::current_exe().into_diagnostic()?;
        let directory = layout.directory.clone();
        let mut processes = Processes { program, directory, processes: Vec::new() };
        for node in &layout.nodes {
            let child = processes
                .spawn(node)
                .into_diagnostic()
                .wrap_err_with(|| format!("{} cannot be started", node.name))?;
            let pid = child.id();
            processes.processes.push(Process { node: node.clone(), pid, child: Some(child) });
        }
        Ok(processes)
    }

    /// The process that a node runs as, or last ran as.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.processes.iter().find(|process| process.node.name == name).map(|process| process.pid)
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.processes.iter().filter(|process| process.child.is_some()).count()
    }

    /// A sentence for each node that has ended since the last call.
    pub fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for process in &mut self.processes {
            let Some(status) = process.ended() else { continue };
            let (name, pid) = (&process.node.name, process.pid);
            fallen.push(format!(
                "{name} (process {pid}) is down: {}. It stays down until you say, in another \
                 terminal:\n  {} dev --restart {name} --data {}",
                in_words(status),
                program(),
                self.directory.display(),
            ));
        }
        fallen
    }

    /// The first node that has ended, with the end of its log: for the start.
    pub fn failed(&mut self) -> Option<String> {
        for process in &mut self.processes {
            let Some(status) = process.ended() else { continue };
            let log = std::fs::read_to_string(process.node.log_file()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or(&[]);
            let name = &process.node.name;
            return Some(format!("{name} did not start: {}\n{}", in_words(status), end.join("\n")));
        }
        None
    }

    /// Starts a node again that is down; returns its process.
    pub fn restart(&mut self, name: &str) -> Result<u32, String> {
        let place = self.processes.iter().position(|process| process.node.name == name);
        let Some(process) = place.and_then(|place| self.processes.get_mut(place)) else {
            let names: Vec<&str> = self.processes.iter().map(|p| p.node.name.as_str()).collect();
            return Err(format!("no node is named `{name}`; there are {}", names.join(", ")));
        };
        process.ended();
        if process.child.is_some() {
            return Err(format!("{name} is running, as process {}", process.pid));
        }
        let node = process.node.clone();
        let child = self.spawn(&node).map_err(|error| format!("{name} does not start: {error}"))?;
        let pid = child.id();
        if let Some(process) = place.and_then(|place| self.processes.get_mut(place)) {
            process.pid = pid;
            process.child = Some(child);
        }
        Ok(pid)
    }

    /// Stops all nodes and waits for them.
    pub fn stop(&mut self) {
        for process in &mut self.processes {
            // Closing its end of the pipe tells the node.
            drop(process.child.as_mut().and_then(|child| child.stdin.take()));
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            for process in &mut self.processes {
                process.ended();
            }
            if self.running() == 0 {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        for process in &mut self.processes {
            if let Some(mut child) = process.child.take() {
                let (name, pid) = (&process.node.name, process.pid);
                eprintln!("{name} (process {pid}) does not stop, and is killed");
                // It fails only when the process has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    fn spawn(&self, node: &DevNode) -> std::io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(node.log_file())?;
        Command::new(&self.program)
            .arg("serve")
            .arg("--parent-pipe")
            .arg("--config")
            .arg(node.config_file())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for `dev`, which stops the nodes in its own way.
            .process_group(0)
            .spawn()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Process {
    /// How the process ended, told once.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (_, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => String::from("it ended"),
    }
}

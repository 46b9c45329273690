//! `trefoil dev`: a whole cluster on this machine, one process a node.
//!
//! `layout.rs` decides names, addresses and files; `processes.rs` starts and stops the nodes;
//! `ready.rs` waits until they answer and shows them; `control.rs` lets another terminal ask for
//! a restart. The nodes are ordinary `trefoil serve` processes with ordinary configuration files.

mod control;
mod layout;
mod processes;
mod ready;

pub use layout::with_default_nodes;

use crate::cli::say;
use control::Control;
use layout::Layout;
use miette::{IntoDiagnostic, WrapErr, miette};
use processes::Processes;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the children and the control socket are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `dev` is told.
#[derive(clap::Args)]
pub struct Options {
    /// Where the nodes' data lies. It is kept, and the cluster resumes from it. [default: a
    /// temporary directory, removed at the end]
    #[arg(long)]
    data: Option<PathBuf>,
    /// The datacenters. [default: eu,us]
    #[arg(long, value_delimiter = ',')]
    datacenters: Option<Vec<String>>,
    /// Nodes in each datacenter. [default: 3]
    #[arg(long)]
    nodes: Option<usize>,
    /// The first client port; the others follow, the peer ports begin 100 higher. [default: 7001]
    #[arg(long)]
    port: Option<u16>,
    /// Let each node answer `GET /metrics`, on the port 200 above its client port.
    #[arg(long)]
    metrics: bool,
    /// A file with the `[[keyspace]]` tables. [default: one example of each model]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Start a node again that is down, in the cluster that runs in `--data DIR`.
    #[arg(
        long,
        value_name = "NAME",
        requires = "data",
        conflicts_with_all = ["datacenters", "nodes", "port", "config", "metrics"]
    )]
    restart: Option<String>,
}

/// Runs a cluster until it is told to stop, or asks the running one for a restart.
pub fn run(options: &Options) -> miette::Result<()> {
    if let (Some(name), Some(directory)) = (&options.restart, &options.data) {
        let answer = control::ask(directory, name)?;
        say(&format!("{answer}\n"));
        return Ok(());
    }
    // Dropped last: the temporary directory goes when all nodes have ended.
    let temporary = match &options.data {
        Some(_) => None,
        None => Some(temporary_directory()?),
    };
    let directory = match (&options.data, &temporary) {
        (Some(directory), _) => directory.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => return Err(miette!("there is no data directory")),
    };
    let result = run_in(&directory, options);
    if let Some(temporary) = temporary.filter(|directory| result.is_err() && has_logs(directory)) {
        // What the nodes said is worth more than a tidy directory.
        eprintln!("the nodes' logs are kept in {}", temporary.keep().display());
    }
    result
}

fn run_in(directory: &Path, options: &Options) -> miette::Result<()> {
    let stop = stop_signal()?;
    std::fs::create_dir_all(directory)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be made", directory.display()))?;
    let directory = directory.canonicalize().into_diagnostic()?;
    let layout = layout::open(&directory, options)?;
    let _lock = lock(&directory)?;
    layout.check_ports()?;
    layout.remove_description();
    layout.write_files()?;
    let control = Control::listen(&directory)?;
    let mut processes = Processes::start(&layout)?;
    match ready::wait(&layout, &mut processes, &stop)? {
        Some(leaders) => {
            layout.write_description(&processes)?;
            ready::show(&layout, &processes, &leaders);
        }
        None => return Ok(()),
    }
    while !stop.load(Ordering::Relaxed) {
        for fallen in processes.fallen() {
            eprintln!("{fallen}");
        }
        control.answer(|name| restart(&layout, &mut processes, name));
        std::thread::sleep(LOOK_EVERY);
    }
    eprintln!("stopping {} nodes", processes.running());
    processes.stop();
    layout.remove_description();
    Ok(())
}

fn restart(layout: &Layout, processes: &mut Processes, name: &str) -> Result<String, String> {
    let pid = processes.restart(name)?;
    layout.write_description(processes).map_err(|error| error.to_string())?;
    let text = format!("{name} is started again, as process {pid}");
    eprintln!("{text}");
    Ok(text)
}

/// Set by Ctrl-C, SIGTERM, and a terminal that closes.
fn stop_signal() -> miette::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .into_diagnostic()
            .wrap_err("signals cannot be handled")?;
    }
    Ok(stop)
}

fn temporary_directory() -> miette::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("trefoil-dev-").tempdir();
    made.into_diagnostic().wrap_err("no temporary directory can be made; name one with --data DIR")
}

/// Whether any node has been started in a directory.
fn has_logs(directory: &tempfile::TempDir) -> bool {
    let entries = std::fs::read_dir(directory.path()).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().join(layout::LOG_FILE).exists())
}

/// One `dev` a directory; the lock ends with the process, however it ends.
fn lock(directory: &Path) -> miette::Result<File> {
    let path = directory.join("dev.lock");
    let file = File::create(&path)
        .into_diagnostic()
        .wrap_err_with(|| format!("{} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(miette!("another `trefoil dev` runs in {}", directory.display()))
        }
        Err(TryLockError::Error(error)) => {
            Err(miette!("{} cannot be locked: {error}", path.display()))
        }
    }
}

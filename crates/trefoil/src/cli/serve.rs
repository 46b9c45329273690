//! `trefoil serve`: one node of a cluster.

use crate::config::Config;
use crate::server::{self, ServerOptions};
use miette::{IntoDiagnostic, miette};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `serve` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Which of its nodes this is; instead of the file's `[server] node`.
    #[arg(long)]
    node: Option<String>,
    /// Where the data lies; instead of the file's `[server] data`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where to answer `GET /metrics`, an IP address and a port; instead of the file's `[server]
    /// metrics`. [default: nowhere]
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// End when the standard input does: for a parent that may be killed.
    #[arg(long, hide = true)]
    parent_pipe: bool,
}

/// Runs the node until it is told to stop: by SIGTERM, by Ctrl-C, or by the end of its input.
pub fn run(options: &Options) -> miette::Result<ExitCode> {
    let config = Config::read(&options.config)?;
    let file = options.config.display();
    let me = match &options.node {
        Some(name) => config.cluster.node(name).ok_or_else(|| {
            let names: Vec<&str> =
                config.cluster.members.iter().map(|member| member.name.as_str()).collect();
            miette!("{file} has no node named `{name}`; it has: {}", names.join(", "))
        })?,
        None => config.server.node.ok_or_else(|| {
            miette!("which node is this? Say `--node NAME`, or `node` in [server] of {file}")
        })?,
    };
    let data = options.data.clone().or_else(|| config.server.data.clone()).ok_or_else(|| {
        miette!("where does its data lie? Say `--data DIR`, or `data` in [server] of {file}")
    })?;
    let Some(own) = config.addresses_of(me) else {
        return Err(miette!("{file} has no addresses of this node"));
    };
    let peers = config.addresses.iter().map(|addresses| addresses.peer).collect();
    let mut server = ServerOptions::new(config.cluster, me, own.client, peers, data);
    server.slots_keyspace = config.slots_keyspace;
    server.client_addresses = config.addresses.iter().map(|addresses| addresses.client).collect();
    server.metrics_address = options.metrics.or(config.server.metrics);
    if let Some(bytes) = config.server.log_retention_bytes {
        server.limits.log_bytes_max = bytes;
    }
    let ended = match options.parent_pipe {
        true => server::run_until(server, parent_or_signal().into_diagnostic()?),
        false => server::run(server),
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}

/// A socket on which a byte arrives when the standard input ends, or at SIGTERM and Ctrl-C.
fn parent_or_signal() -> io::Result<UnixStream> {
    let (stop, mut told) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, told.try_clone()?)?;
    }
    std::thread::Builder::new().name(String::from("parent")).spawn(move || {
        // Nothing is ever written: it ends when the parent does, whatever ends the parent.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // Fails only when the node has stopped already.
        let _ = told.write_all(&[0]);
    })?;
    Ok(stop)
}

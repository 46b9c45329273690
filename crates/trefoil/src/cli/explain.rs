//! `trefoil explain`: what follows from the settings, without starting anything.

use crate::cli::dev;
use crate::config::{self, Config};
use miette::{IntoDiagnostic, WrapErr};
use std::fmt::Write;
use std::path::PathBuf;

/// What `explain` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The configuration file. One that holds only keyspaces is explained for the nodes of `dev`.
    #[arg(long)]
    config: PathBuf,
}

/// Prints the guarantees of every keyspace.
pub fn run(options: &Options) -> miette::Result<()> {
    print!("{}", text(options)?);
    Ok(())
}

fn text(options: &Options) -> miette::Result<String> {
    let path = &options.config;
    let name = path.display().to_string();
    let text = config::read_text(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("{name} cannot be read"))?;
    let mut out = String::new();
    let config = if config::names_nodes(&name, &text)? {
        Config::parse(&name, &text)?
    } else {
        let _ = writeln!(out, "{name} lists no nodes: explained for the six nodes of `dev`.\n");
        Config::parse(&name, &dev::with_default_nodes(&text))?
    };
    for keyspace in &config.cluster.keyspaces {
        let prefix = String::from_utf8_lossy(&keyspace.prefix);
        let model = keyspace.model.name();
        let _ = writeln!(out, "\"{prefix}\" ({model})");
    }
    Ok(out)
}

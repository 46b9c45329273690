//! `trefoil explain`: what follows from the settings, without starting anything.

use crate::cli::{dev, say};
use crate::config::{self, Config};
use miette::{IntoDiagnostic, WrapErr};
use replication::keyspace::guarantees;
use std::fmt::Write;
use std::path::PathBuf;

/// Columns of the text.
const COLUMNS: usize = 100;

/// What `explain` is told.
#[derive(clap::Args)]
pub struct Options {
    /// The configuration file. One that holds only keyspaces is explained for the nodes of `dev`.
    #[arg(long)]
    config: PathBuf,
}

/// Prints the guarantees of every keyspace.
pub fn run(options: &Options) -> miette::Result<()> {
    say(&text(options)?);
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
    for (number, keyspace) in config.cluster.keyspaces.iter().enumerate() {
        let mut lines = guarantees::explain(&config.cluster, keyspace).into_iter();
        let separator = if number == 0 { "" } else { "\n" };
        let _ = writeln!(out, "{separator}{}", lines.next().unwrap_or_default());
        for line in lines {
            if line.ends_with(':') {
                let _ = writeln!(out, "\n  {line}");
            } else {
                wrap(&line, &mut out);
            }
        }
    }
    Ok(out)
}

/// One statement as a list item whose lines fit into a terminal.
fn wrap(statement: &str, out: &mut String) {
    let mut line = String::from("  -");
    for word in statement.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(out, "{line}");
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

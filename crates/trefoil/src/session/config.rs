//! CONFIG GET and SET: what there is of Redis's options here, and what tools ask for.

use super::{Session, text, upper, wrong_count};
use crate::resp::encode;
use replication::Arguments;
use replication::command::glob;

/// The least that `proto-max-bulk-len` can be set to: Redis's own bound.
const BULK_BYTES_LEAST: usize = 1 << 20;

/// CONFIG ...
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let Some(subcommand) = arguments.get(1) else { return wrong_count(out, "config") };
    match (upper(Some(subcommand)).as_slice(), arguments.len()) {
        (b"HELP", 2) => super::help::execute("config", out),
        (b"GET", 3..) => get(arguments.from(2), session, out),
        (b"SET", 4..) => set(arguments.from(2), session, out),
        (b"RESETSTAT", 2) => {
            session.state.counters = Default::default();
            encode::simple(out, "OK");
        }
        (b"REWRITE", 2) => encode::error(out, "ERR The server is running without a config file"),
        (b"GET" | b"SET" | b"RESETSTAT" | b"REWRITE", _) => {
            wrong_count(out, &format!("config|{}", text(Some(subcommand))));
        }
        _ => {
            let name = text(Some(subcommand));
            encode::error(out, &format!("ERR unknown subcommand '{name}'. Try CONFIG HELP."));
        }
    }
}

/// All options with their values, in Redis's words. `appendonly yes` and an empty `save` say how
/// data is kept here: in a log.
fn options(session: &Session<'_>) -> Vec<(&'static str, String)> {
    let state = &session.state;
    vec![
        ("appendonly", "yes".into()),
        ("bind", String::new()),
        ("databases", "1".into()),
        ("dir", state.data_directory.display().to_string()),
        ("maxclients", session.sink.clients.clients_max().to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", state.client_port.to_string()),
        ("proto-max-bulk-len", state.bulk_bytes_max.to_string()),
        ("save", String::new()),
        ("timeout", "0".into()),
    ]
}

fn get(patterns: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let mut found = options(session);
    found.retain(|(name, _)| {
        patterns.iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    });
    let protocol = session.protocol();
    encode::map(out, found.len(), protocol);
    for (name, value) in found {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
}

/// CONFIG SET option value ...: all of them or none.
fn set(pairs: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let known = options(session);
    let most = session.state.bulk_bytes_limit;
    let mut bulk_bytes_max = session.state.bulk_bytes_max;
    for place in (0..pairs.len()).step_by(2) {
        let name = text(pairs.get(place)).to_ascii_lowercase();
        let (Some(value), true) =
            (pairs.get(place + 1), known.iter().any(|(known, _)| *known == name))
        else {
            return encode::error(
                out,
                &format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                    text(pairs.get(place))
                ),
            );
        };
        let problem = match (name.as_str(), text(Some(value)).parse::<usize>()) {
            ("proto-max-bulk-len", Ok(bytes)) if (BULK_BYTES_LEAST..=most).contains(&bytes) => {
                bulk_bytes_max = bytes;
                continue;
            }
            ("proto-max-bulk-len", _) => {
                format!("argument must be between {BULK_BYTES_LEAST} and {most} inclusive")
            }
            _ => "can't set immutable config".into(),
        };
        return encode::error(
            out,
            &format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {problem}"),
        );
    }
    session.state.bulk_bytes_max = bulk_bytes_max;
    encode::simple(out, "OK");
}

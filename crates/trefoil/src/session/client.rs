//! CLIENT and its subcommands.

use super::connection::{BAD_NAME, is_client_name};
use super::{Session, text, upper, wrong_count};
use crate::clients::{Client, ReplyMode};
use crate::resp::encode;
use replication::Arguments;
use std::fmt::Write;
use std::time::Instant;

const SYNTAX: &str = "ERR syntax error";

/// CLIENT ...
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let Some(subcommand) = arguments.get(1) else { return wrong_count(out, "client") };
    let count = arguments.len();
    match (upper(Some(subcommand)).as_slice(), count) {
        (b"ID", 2) => encode::integer(out, session.client(|client| client.number) as i64),
        (b"HELP", 2) => super::help::execute("client", out),
        (b"INFO", 2) => {
            let (now, protocol) = (session.now, session.protocol());
            let line = session.client(|client| describe(client, now));
            encode::verbatim(out, &format!("{line}\n"), protocol);
        }
        (b"LIST", _) => list(arguments, session, out),
        (b"KILL", 3..) => super::kill::execute(arguments, session, out),
        (b"GETNAME", 2) => {
            let (name, protocol) = session.client(|client| (client.name.clone(), client.protocol));
            if name.is_empty() { encode::nil(out, protocol) } else { encode::bulk(out, &name) }
        }
        (b"SETNAME", 3) => {
            let name = arguments.get(2).unwrap_or(&[]);
            if !is_client_name(name) {
                return encode::error(out, BAD_NAME);
            }
            session.client(|client| client.rename(name));
            encode::simple(out, "OK");
        }
        (b"SETINFO", 4) => set_info(arguments, session, out),
        (b"NO-EVICT", 3) => match on_off(arguments.get(2)) {
            Some(on) => {
                session.client(|client| client.no_evict = on);
                encode::simple(out, "OK");
            }
            None => encode::error(out, SYNTAX),
        },
        (b"NO-TOUCH", 3) => match on_off(arguments.get(2)) {
            Some(_) => encode::simple(out, "OK"),
            None => encode::error(out, SYNTAX),
        },
        (b"REPLY", 3) => reply(arguments, session, out),
        (
            b"ID" | b"INFO" | b"GETNAME" | b"SETNAME" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH"
            | b"REPLY" | b"KILL" | b"HELP",
            _,
        ) => wrong_count(out, &format!("client|{}", text(Some(subcommand)))),
        _ => {
            let name = text(Some(subcommand));
            encode::error(out, &format!("ERR unknown subcommand '{name}'. Try CLIENT HELP."));
        }
    }
}

/// CLIENT REPLY ON|OFF|SKIP. Only ON is answered; that the others are not follows from the mode.
fn reply(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let mode = match upper(arguments.get(2)).as_slice() {
        b"ON" => ReplyMode::On,
        b"OFF" => ReplyMode::Off,
        b"SKIP" => ReplyMode::Skip,
        _ => return encode::error(out, SYNTAX),
    };
    session.client(|client| {
        // Nothing is skipped where nothing is answered.
        if !(mode == ReplyMode::Skip && client.reply_mode == ReplyMode::Off) {
            client.reply_mode = mode;
        }
    });
    if mode == ReplyMode::On {
        encode::simple(out, "OK");
    }
}

/// CLIENT SETINFO LIB-NAME|LIB-VER value
fn set_info(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let value = arguments.get(3).unwrap_or(&[]);
    let option = upper(arguments.get(2));
    let shown = match option.as_slice() {
        b"LIB-NAME" => "lib-name",
        b"LIB-VER" => "lib-ver",
        _ => {
            let option = text(arguments.get(2));
            return encode::error(out, &format!("ERR Unrecognized option '{option}'"));
        }
    };
    if !is_client_name(value) {
        return encode::error(
            out,
            &format!("ERR {shown} cannot contain spaces, newlines or special characters."),
        );
    }
    session.client(|client| match shown {
        "lib-name" => client.library.0 = value.to_vec(),
        _ => client.library.1 = value.to_vec(),
    });
    encode::simple(out, "OK");
}

/// CLIENT LIST [TYPE type | ID id ...]
fn list(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let option = upper(arguments.get(2));
    let mut wanted: Option<Vec<u64>> = None;
    match (option.as_slice(), arguments.len()) {
        (_, 2) => {}
        (b"TYPE", 4) => match upper(arguments.get(3)).as_slice() {
            b"NORMAL" => {}
            b"MASTER" | b"REPLICA" | b"SLAVE" | b"PUBSUB" => wanted = Some(Vec::new()),
            _ => {
                let kind = text(arguments.get(3));
                return encode::error(out, &format!("ERR Unknown client type '{kind}'"));
            }
        },
        (b"ID", 4..) => {
            let ids = arguments.from(3);
            let parsed = ids.iter().map(|id| text(Some(id)).parse().ok().filter(|id| *id > 0));
            let Some(ids) = parsed.collect::<Option<Vec<u64>>>() else {
                return encode::error(out, "ERR Invalid client ID");
            };
            wanted = Some(ids);
        }
        _ => return encode::error(out, SYNTAX),
    }
    let mut lines = String::new();
    for client in session.sink.clients.iter() {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(&client.number)) {
            lines.push_str(&describe(client, session.now));
            lines.push('\n');
        }
    }
    let protocol = session.protocol();
    encode::verbatim(out, &lines, protocol);
}

/// A line of CLIENT LIST: Redis's fields, as far as they mean something here.
fn describe(client: &Client, now: Instant) -> String {
    let address = |address: Option<std::net::SocketAddr>| {
        address.map_or(String::from("?:0"), |address| address.to_string())
    };
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
    let mut line = String::new();
    let _ = write!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 \
         multi=-1 qbuf={} obl={} oll=0 omem={} events=r cmd={} user=default redir=-1 resp={} \
         lib-name={} lib-ver={}",
        client.number,
        address(client.address),
        address(client.stream.local_addr().ok()),
        String::from_utf8_lossy(&client.name),
        seconds(client.since),
        seconds(client.last_active),
        if client.no_evict { "e" } else { "N" },
        client.carry.len(),
        client.replies.ready().len(),
        client.replies.unsent(),
        client.last_command,
        client.protocol.number(),
        String::from_utf8_lossy(&client.library.0),
        String::from_utf8_lossy(&client.library.1),
    );
    line
}

fn on_off(argument: Option<&[u8]>) -> Option<bool> {
    match upper(argument).as_slice() {
        b"ON" => Some(true),
        b"OFF" => Some(false),
        _ => None,
    }
}

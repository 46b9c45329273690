//! CLUSTER and READONLY: what cluster-aware clients ask, about one keyspace.
//!
//! A cluster-aware client fetches a map (which slots of the key space which node serves), sends
//! each command to the node that the map names, and fetches the map again when that node is gone or
//! answers `-MOVED`. Here any node takes any command and hands it on, so the map only saves a hop:
//! a client whose map is old is slower, never wrong. Real clients fetch the map on one connection
//! and send commands on others, which have not told that they know MOVED: those are never sent
//! one (`moved.rs`; docs/decisions has a page on it).

mod map;
pub mod moved;
mod nodes;

use super::{Session, text, upper, wrong_count};
use crate::resp::encode;
use replication::Arguments;
use replication::keyspace::slot::slot_of;
use replication::keyspace::{Keyspace, SLOTS};

/// Redis's words for a slot that is none.
const BAD_SLOT: &str = "ERR Invalid or out of range slot";
/// Redis's words for a count that is none.
const BAD_COUNT: &str = "ERR Invalid number of keys";

/// CLUSTER ...
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let Some(subcommand) = arguments.get(1) else { return wrong_count(out, "cluster") };
    let protocol = session.protocol();
    match (upper(Some(subcommand)).as_slice(), arguments.len()) {
        (b"SLOTS", 2) => {
            session.client(|client| client.asked_map = true);
            map::slots(session, out);
        }
        (b"SHARDS", 2) => {
            session.client(|client| client.asked_map = true);
            map::shards(session, out, protocol);
        }
        (b"NODES", 2) => {
            session.client(|client| client.asked_map = true);
            encode::verbatim(out, &nodes::nodes(session), protocol);
        }
        (b"HELP", 2) => super::help::execute("cluster", out),
        (b"INFO", 2) => encode::verbatim(out, &nodes::info(session), protocol),
        (b"MYID", 2) => encode::bulk(out, nodes::id(session, session.state.me).as_bytes()),
        (b"KEYSLOT", 3) => {
            let key = arguments.get(2).unwrap_or(&[]);
            encode::integer(out, i64::from(slot_of(key)));
        }
        (b"COUNTKEYSINSLOT", 3) => match slot(arguments.get(2)) {
            Some(slot) => {
                encode::integer(out, keys_in_slot(session, slot, usize::MAX).len() as i64)
            }
            None => encode::error(out, BAD_SLOT),
        },
        (b"GETKEYSINSLOT", 4) => {
            let Some(slot) = slot(arguments.get(2)) else { return encode::error(out, BAD_SLOT) };
            let Ok(count) = text(arguments.get(3)).parse::<usize>() else {
                return encode::error(out, BAD_COUNT);
            };
            let keys = keys_in_slot(session, slot, count);
            encode::array(out, keys.len());
            keys.iter().for_each(|key| encode::bulk(out, key));
        }
        (
            b"SLOTS" | b"SHARDS" | b"NODES" | b"INFO" | b"MYID" | b"KEYSLOT" | b"COUNTKEYSINSLOT"
            | b"GETKEYSINSLOT",
            _,
        ) => wrong_count(out, &format!("cluster|{}", text(Some(subcommand)))),
        _ => {
            let name = text(Some(subcommand));
            encode::error(out, &format!("ERR unknown subcommand '{name}'. Try CLUSTER HELP."));
        }
    }
}

/// READONLY and READWRITE. No client that is not cluster-aware says READONLY, and real ones say it
/// on each connection that they read from: so it tells, too, that the connection knows MOVED.
pub fn read_mode(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 1 {
        return wrong_count(out, &text(arguments.get(0)));
    }
    let read_only = upper(arguments.get(0)) == b"READONLY";
    session.client(|client| client.read_only = read_only);
    encode::simple(out, "OK");
}

/// The keyspace that cluster-aware clients see. The configuration has checked that it exists.
fn described<'a>(session: &Session<'a>) -> Option<&'a Keyspace> {
    session.node.cluster().keyspace(session.state.slots_keyspace)
}

fn slot(argument: Option<&[u8]>) -> Option<u16> {
    text(argument).parse().ok().filter(|slot| *slot < SLOTS)
}

/// As in Redis: those that this node holds.
fn keys_in_slot<'a>(session: &Session<'a>, slot: u16, limit: usize) -> Vec<&'a [u8]> {
    let keyspace = described(session);
    keyspace.map_or(Vec::new(), |k| session.node.keys_in_slot(session.time, k, slot, limit))
}

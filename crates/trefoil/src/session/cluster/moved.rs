//! `-MOVED slot host:port`: the answer to a cluster-aware client that has asked the wrong node.
//!
//! Only for keys of the keyspace that CLUSTER SLOTS describes, all in one partition; only to a
//! connection that has said that it knows the word; and only where this node knows a better one
//! that is up. Everything else is carried out here or handed on, as for any other client.

use super::nodes;
use crate::session::Session;
use replication::Arguments;
use replication::command::verb::EachVerb;
use replication::command::{self, Action, Command};
use replication::node::slots::Place;

/// The error for a command of a connection that knows MOVED, if it is to get one.
pub fn moved(arguments: Arguments<'_>, session: &mut Session<'_>) -> Option<String> {
    let (asked_map, read_only) = session.client(|client| (client.asked_map, client.read_only));
    if !asked_map && !read_only {
        return None;
    }
    // What makes no sense gets its error in the usual way.
    let Command { action, .. } = command::parse(arguments).ok()?;
    let (slot, place) = match &action {
        Action::Key(command) => {
            let may_follow = read_only && !command.verb.is_write();
            place(session, std::iter::once(command.key), may_follow)?
        }
        Action::Each { verb, keys } => {
            let may_follow = read_only && *verb != EachVerb::Delete;
            place(session, keys.iter(), may_follow)?
        }
        Action::SetMany { pairs } => place(session, pairs.iter().step_by(2), false)?,
        _ => return None,
    };
    let Place::At(node) = place else { return None };
    let (host, port) = nodes::address(session, node)?;
    Some(format!("MOVED {slot} {host}:{port}"))
}

fn place<'a>(
    session: &Session<'_>,
    keys: impl Iterator<Item = &'a [u8]>,
    may_follow: bool,
) -> Option<(u16, Place)> {
    session.node.place_of(session.time, super::described(session)?, keys, may_follow)
}

//! CLIENT KILL: closes connections, by Redis's rules. They are closed when the turn ends; what they
//! have asked before is carried out, and answered to nobody.

use super::{Session, text, upper};
use crate::clients::Client;
use crate::resp::encode;
use replication::Arguments;
use std::net::SocketAddr;
use std::time::Duration;

const SYNTAX: &str = "ERR syntax error";

/// Which connections.
#[derive(Default)]
struct Wanted {
    id: Option<u64>,
    address: Option<SocketAddr>,
    local_address: Option<SocketAddr>,
    /// Only at least so old.
    age: Option<Duration>,
    /// Of a kind that there is none of here.
    nobody: bool,
    /// Also the one that asks.
    with_me: bool,
}

/// CLIENT KILL ip:port, and CLIENT KILL option value ...
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() == 3 {
        let address = text(arguments.get(2)).parse().ok();
        let wanted =
            Wanted { address, nobody: address.is_none(), with_me: true, ..Wanted::default() };
        return match kill(&wanted, session) {
            0 => encode::error(out, "ERR No such client"),
            _ => encode::simple(out, "OK"),
        };
    }
    match options(arguments.from(2)) {
        Ok(wanted) => encode::integer(out, kill(&wanted, session) as i64),
        Err(error) => encode::error(out, &error),
    }
}

fn options(pairs: Arguments<'_>) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    if !pairs.len().is_multiple_of(2) {
        return Err(SYNTAX.into());
    }
    for place in (0..pairs.len()).step_by(2) {
        let value = text(pairs.get(place + 1));
        let address = || value.parse().ok();
        match upper(pairs.get(place)).as_slice() {
            b"ID" => match value.parse().ok().filter(|id| *id > 0) {
                Some(id) => wanted.id = Some(id),
                None => return Err("ERR client-id should be greater than 0".into()),
            },
            b"ADDR" => {
                wanted.address = address();
                wanted.nobody |= wanted.address.is_none();
            }
            b"LADDR" => {
                wanted.local_address = address();
                wanted.nobody |= wanted.local_address.is_none();
            }
            b"MAXAGE" => match value.parse::<u64>().ok().filter(|seconds| *seconds > 0) {
                Some(seconds) => wanted.age = Some(Duration::from_secs(seconds)),
                None => return Err("ERR maxage is not an integer or out of range".into()),
            },
            b"TYPE" => match value.to_ascii_uppercase().as_str() {
                "NORMAL" => {}
                "MASTER" | "REPLICA" | "SLAVE" | "PUBSUB" => wanted.nobody = true,
                _ => return Err(format!("ERR Unknown client type '{value}'")),
            },
            b"USER" => wanted.nobody |= value != "default",
            b"SKIPME" => match value.to_ascii_uppercase().as_str() {
                "YES" => wanted.with_me = false,
                "NO" => wanted.with_me = true,
                _ => return Err(SYNTAX.into()),
            },
            _ => return Err(SYNTAX.into()),
        }
    }
    Ok(wanted)
}

/// How many are closed. The one that asks is still answered.
fn kill(wanted: &Wanted, session: &mut Session<'_>) -> usize {
    let (now, me) = (session.now, session.place);
    let is_meant = |client: &Client| {
        !wanted.nobody
            && wanted.id.is_none_or(|id| client.number == id)
            && wanted.address.is_none_or(|address| client.address == Some(address))
            && wanted
                .local_address
                .is_none_or(|address| client.stream.local_addr().ok() == Some(address))
            && wanted.age.is_none_or(|age| now.saturating_duration_since(client.since) >= age)
    };
    let places = session.sink.clients.places_where(is_meant);
    let meant: Vec<usize> =
        places.into_iter().filter(|place| wanted.with_me || *place != me).collect();
    for place in &meant {
        if *place == me {
            session.client(Client::close_after_replies);
        } else {
            session.sink.clients.kill(*place);
        }
    }
    meant.len()
}

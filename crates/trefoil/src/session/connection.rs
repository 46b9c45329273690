//! Commands about the connection: PING, HELLO, AUTH, SELECT and their kin.

use super::{Session, text, upper, wrong_count};
use crate::clients::ReplyMode;
use crate::resp::Protocol;
use crate::resp::encode;
use replication::Arguments;

/// The version of Redis whose behaviour is followed; clients look at it.
pub const REDIS_VERSION: &str = "7.0.15";
/// The user that every connection is until there are others. It has no password.
const DEFAULT_USER: &[u8] = b"default";

/// `PING [message]`
pub fn ping(arguments: Arguments<'_>, out: &mut Vec<u8>) {
    match (arguments.get(1), arguments.len()) {
        (None, _) => encode::simple(out, "PONG"),
        (Some(message), 2) => encode::bulk(out, message),
        _ => wrong_count(out, "ping"),
    }
}

/// ECHO message
pub fn echo(arguments: Arguments<'_>, out: &mut Vec<u8>) {
    match (arguments.get(1), arguments.len()) {
        (Some(message), 2) => encode::bulk(out, message),
        _ => wrong_count(out, "echo"),
    }
}

/// `AUTH [user] password`: there is one user, without a password.
pub fn auth(arguments: Arguments<'_>, out: &mut Vec<u8>) {
    match (arguments.get(1), arguments.len()) {
        (None, _) => wrong_count(out, "auth"),
        (_, 2) => encode::error(
            out,
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        ),
        (Some(user), 3) if user == DEFAULT_USER => encode::simple(out, "OK"),
        (_, 3) => encode::error(out, WRONG_PASSWORD),
        _ => encode::error(out, "ERR syntax error"),
    }
}

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// SELECT index: there is database 0.
pub fn select(arguments: Arguments<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 2 {
        return wrong_count(out, "select");
    }
    match text(arguments.get(1)).parse::<i32>() {
        Ok(0) => encode::simple(out, "OK"),
        Ok(_) => encode::error(out, "ERR DB index is out of range"),
        Err(_) => encode::error(out, "ERR value is not an integer or out of range"),
    }
}

/// TIME
pub fn time(arguments: Arguments<'_>, session: &Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 1 {
        return wrong_count(out, "time");
    }
    let wall = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(std::time::Duration::from_millis(session.time.wall_ms));
    encode::array(out, 2);
    encode::bulk(out, wall.as_secs().to_string().as_bytes());
    encode::bulk(out, wall.subsec_micros().to_string().as_bytes());
}

/// RESET
pub fn reset(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    if arguments.len() != 1 {
        return wrong_count(out, "reset");
    }
    session.client(|client| {
        client.protocol = Protocol::Resp2;
        client.rename(&[]);
        client.reply_mode = ReplyMode::On;
        client.no_evict = false;
        client.asked_map = false;
        client.read_only = false;
    });
    encode::simple(out, "RESET");
}

/// HELLO [2|3 [AUTH user password] [SETNAME name]]
pub fn hello(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let mut protocol = session.protocol();
    if let Some(version) = arguments.get(1) {
        protocol = match std::str::from_utf8(version).ok().and_then(|v| v.parse::<i64>().ok()) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return encode::error(out, "NOPROTO unsupported protocol version"),
            None => {
                return encode::error(
                    out,
                    "ERR Protocol version is not an integer or out of range",
                );
            }
        };
    }
    let mut name = None;
    let mut place = 2;
    while let Some(option) = arguments.get(place) {
        match (upper(Some(option)).as_slice(), arguments.len() - place - 1) {
            (b"AUTH", 2..) => {
                if arguments.get(place + 1) != Some(DEFAULT_USER) {
                    return encode::error(out, WRONG_PASSWORD);
                }
                place += 3;
            }
            (b"SETNAME", 1..) => {
                name = arguments.get(place + 1);
                place += 2;
            }
            _ => {
                let option = text(Some(option));
                return encode::error(out, &format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some(name) = name {
        if !is_client_name(name) {
            return encode::error(out, BAD_NAME);
        }
        session.client(|client| client.rename(name));
    }
    session.client(|client| client.protocol = protocol);
    let number = session.client(|client| client.number);
    encode::map(out, 7, protocol);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        encode::bulk(out, key.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
    encode::bulk(out, b"proto");
    encode::integer(out, protocol.number());
    encode::bulk(out, b"id");
    encode::integer(out, number as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        encode::bulk(out, key.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
    encode::bulk(out, b"modules");
    encode::array(out, 0);
}

/// The error of a name that [`is_client_name`] refuses.
pub const BAD_NAME: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// Whether a name can stand in CLIENT LIST.
pub fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

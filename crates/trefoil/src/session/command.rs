//! COMMAND: the table of commands, in Redis's words.

use super::{Session, text, upper, wrong_count};
use crate::resp::Protocol;
use crate::resp::encode;
use replication::Arguments;
use replication::command::table::{self, CommandInfo, Group};

/// COMMAND [COUNT | DOCS | INFO | LIST | GETKEYS] ...
pub fn execute(arguments: Arguments<'_>, session: &mut Session<'_>, out: &mut Vec<u8>) {
    let protocol = session.protocol();
    let names = arguments.from(2);
    let Some(subcommand) = arguments.get(1) else {
        encode::array(out, table::all().len());
        return table::all().iter().for_each(|command| info(command, out, protocol));
    };
    match (upper(Some(subcommand)).as_slice(), arguments.len()) {
        (b"COUNT", 2) => encode::integer(out, table::all().len() as i64),
        (b"LIST", 2) => {
            encode::array(out, table::all().len());
            table::all().iter().for_each(|command| encode::bulk(out, command.name.as_bytes()));
        }
        (b"HELP", 2) => super::help::execute("command", out),
        (b"INFO", 2) => {
            encode::array(out, table::all().len());
            table::all().iter().for_each(|command| info(command, out, protocol));
        }
        (b"INFO", _) => {
            encode::array(out, names.len());
            for name in names.iter() {
                match table::find(name) {
                    Some(command) => info(command, out, protocol),
                    None => encode::nil(out, protocol),
                }
            }
        }
        (b"DOCS", _) => {
            let all = table::all().iter();
            let found: Vec<&CommandInfo> = match names.len() {
                0 => all.collect(),
                _ => names.iter().filter_map(table::find).collect(),
            };
            encode::map(out, found.len(), protocol);
            found.iter().for_each(|command| docs(command, out, protocol));
        }
        (b"GETKEYS", 4..) => keys(names, out),
        (b"COUNT" | b"LIST" | b"GETKEYS", _) => {
            wrong_count(out, &format!("command|{}", text(Some(subcommand))));
        }
        _ => {
            let name = text(Some(subcommand));
            encode::error(out, &format!("ERR unknown subcommand '{name}'. Try COMMAND HELP."));
        }
    }
}

/// Redis 7's ten fields; there are no ACL categories, tips, key specifications or subcommands.
fn info(command: &CommandInfo, out: &mut Vec<u8>, protocol: Protocol) {
    encode::array(out, 10);
    encode::bulk(out, command.name.as_bytes());
    encode::integer(out, command.arity.into());
    encode::set(out, command.flags.len(), protocol);
    command.flags.iter().for_each(|flag| encode::simple(out, flag));
    for place in [command.first_key, command.last_key, command.key_step] {
        encode::integer(out, place.into());
    }
    encode::set(out, 0, protocol);
    encode::array(out, 0);
    encode::array(out, 0);
    encode::array(out, 0);
}

fn docs(command: &CommandInfo, out: &mut Vec<u8>, protocol: Protocol) {
    encode::bulk(out, command.name.as_bytes());
    encode::map(out, 2, protocol);
    let group = match command.group {
        Group::Connection => "connection",
        Group::Generic => "generic",
        Group::Server => "server",
        Group::String => "string",
    };
    for (key, value) in [("summary", command.summary), ("group", group)] {
        encode::bulk(out, key.as_bytes());
        encode::bulk(out, value.as_bytes());
    }
}

/// COMMAND GETKEYS command ...
fn keys(command: Arguments<'_>, out: &mut Vec<u8>) {
    let Some(info) = command.get(0).and_then(table::find) else {
        return encode::error(out, "ERR Invalid command specified");
    };
    if !info.accepts(command.len()) {
        return encode::error(out, "ERR Invalid number of arguments specified for command");
    }
    let (Ok(first), Ok(step)) = (usize::try_from(info.first_key), usize::try_from(info.key_step))
    else {
        return encode::error(out, "ERR The command has no key arguments");
    };
    let last = match usize::try_from(info.last_key) {
        Ok(last) => last,
        Err(_) => command.len().saturating_sub(info.last_key.unsigned_abs() as usize),
    };
    if first == 0 || step == 0 {
        return encode::error(out, "ERR The command has no key arguments");
    }
    let keys: Vec<&[u8]> =
        (first..=last).step_by(step).filter_map(|place| command.get(place)).collect();
    encode::array(out, keys.len());
    keys.iter().for_each(|key| encode::bulk(out, key));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session;
    use replication::command::table::Scope;

    #[test]
    fn the_session_answers_what_the_table_gives_it_and_nothing_else() {
        for command in table::all() {
            let ours = command.scope != Scope::Data;
            assert_eq!(session::find(command.name.as_bytes()).is_some(), ours, "{}", command.name);
        }
    }

    #[test]
    fn keys_of_commands() {
        let keys_of = |words: &str| {
            let spans: Vec<replication::Span> = words
                .split(' ')
                .map(|word| replication::Span {
                    start: (word.as_ptr() as usize - words.as_ptr() as usize) as u32,
                    length: word.len() as u32,
                })
                .collect();
            let mut out = Vec::new();
            keys(Arguments::new(words.as_bytes(), &spans), &mut out);
            String::from_utf8_lossy(&out).replace("\r\n", " ")
        };
        assert_eq!(keys_of("mset a 1 b 2"), "*2 $1 a $1 b ");
        assert_eq!(keys_of("del a b c"), "*3 $1 a $1 b $1 c ");
        assert_eq!(keys_of("get a"), "*1 $1 a ");
        assert_eq!(keys_of("ping"), "-ERR The command has no key arguments ");
        assert_eq!(keys_of("get"), "-ERR Invalid number of arguments specified for command ");
    }
}

//! The commands that the server answers itself, because they are about the connection or the
//! process and not about data. Texts are those of Redis 7.0.

mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod help;
mod info;
mod kill;
mod rehearse;
mod state;
mod status;

pub use cluster::moved::moved;
pub use state::{Counters, ServerState};

use crate::clients::Client;
use crate::event_loop::Sink;
use crate::resp::Protocol;
use crate::resp::encode;
use replication::command::table::{self, Scope};
use replication::{Arguments, Node, Time};
use std::time::Instant;

/// A command that the server answers itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionCommand {
    /// AUTH
    Auth,
    /// CLIENT ...
    Client,
    /// CLUSTER ...
    Cluster,
    /// COMMAND ...
    Command,
    /// CONFIG ...
    Config,
    /// ECHO
    Echo,
    /// HELLO
    Hello,
    /// A word of HTTP: a browser was tricked into talking to us.
    Http,
    /// INFO
    Info,
    /// PING
    Ping,
    /// QUIT
    Quit,
    /// READONLY and READWRITE
    ReadMode,
    /// TF.REHEARSE
    Rehearse,
    /// RESET
    Reset,
    /// ROLE
    Role,
    /// SELECT
    Select,
    /// TF.STATUS
    Status,
    /// TIME
    Time,
}

/// Longest name in the table below.
const NAME_BYTES_MAX: usize = 11;

/// The command of this name, if the server answers it itself. Quickest for GET and SET, which it
/// does not.
#[inline]
pub fn find(name: &[u8]) -> Option<SessionCommand> {
    match table::scope(name) {
        Some(Scope::Data) => None,
        _ => by_name(name),
    }
}

fn by_name(name: &[u8]) -> Option<SessionCommand> {
    let mut upper = [0u8; NAME_BYTES_MAX];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    Some(match &*upper {
        b"AUTH" => SessionCommand::Auth,
        b"CLIENT" => SessionCommand::Client,
        b"CLUSTER" => SessionCommand::Cluster,
        b"COMMAND" => SessionCommand::Command,
        b"CONFIG" => SessionCommand::Config,
        b"ECHO" => SessionCommand::Echo,
        b"HELLO" => SessionCommand::Hello,
        b"HOST:" | b"POST" => SessionCommand::Http,
        b"INFO" => SessionCommand::Info,
        b"PING" => SessionCommand::Ping,
        b"QUIT" => SessionCommand::Quit,
        b"READONLY" | b"READWRITE" => SessionCommand::ReadMode,
        b"RESET" => SessionCommand::Reset,
        b"ROLE" => SessionCommand::Role,
        b"SELECT" => SessionCommand::Select,
        b"TF.REHEARSE" => SessionCommand::Rehearse,
        b"TF.STATUS" => SessionCommand::Status,
        b"TIME" => SessionCommand::Time,
        _ => return None,
    })
}

/// What becomes of the connection after a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// It stays.
    Stay,
    /// It is closed when all its requests are answered.
    Close,
    /// It is closed at once.
    CloseNow,
}

/// What a command may look at and change.
pub struct Session<'a> {
    /// The client's place among the clients.
    pub place: usize,
    /// The moment.
    pub now: Instant,
    /// The moment, as the core is told.
    pub time: Time,
    /// What is the server's alone.
    pub state: &'a mut ServerState,
    /// Clients, peers and the log.
    pub sink: &'a mut Sink,
    /// The core.
    pub node: &'a Node,
}

impl Session<'_> {
    /// Changes the client. Nothing happens when it has gone.
    fn client<T: Default>(&mut self, change: impl FnOnce(&mut Client) -> T) -> T {
        self.sink.clients.at(self.place).map(change).unwrap_or_default()
    }

    fn protocol(&mut self) -> Protocol {
        self.client(|client| client.protocol)
    }
}

/// Answers a command into `out`.
pub fn execute(
    command: SessionCommand,
    arguments: Arguments<'_>,
    session: &mut Session<'_>,
    out: &mut Vec<u8>,
) -> After {
    let name = name_of(command);
    session.client(|client| client.last_command = name);
    match command {
        SessionCommand::Auth => connection::auth(arguments, out),
        SessionCommand::Client => client::execute(arguments, session, out),
        SessionCommand::Cluster => cluster::execute(arguments, session, out),
        SessionCommand::Command => command::execute(arguments, session, out),
        SessionCommand::Config => config::execute(arguments, session, out),
        SessionCommand::Echo => connection::echo(arguments, out),
        SessionCommand::Hello => connection::hello(arguments, session, out),
        SessionCommand::Http => {
            let address = session.client(|client| client.address);
            let address = address.map_or("?".into(), |address| address.to_string());
            crate::operator_log::line(format_args!(
                "{address} speaks HTTP to the client port: possibly a cross-protocol attack; closed"
            ));
            return After::CloseNow;
        }
        SessionCommand::Info => info::execute(arguments, session, out),
        SessionCommand::Ping => connection::ping(arguments, out),
        SessionCommand::Quit => {
            encode::simple(out, "OK");
            return After::Close;
        }
        SessionCommand::ReadMode => cluster::read_mode(arguments, session, out),
        SessionCommand::Rehearse => rehearse::execute(arguments, session, out),
        SessionCommand::Reset => connection::reset(arguments, session, out),
        SessionCommand::Role => info::role(arguments, session, out),
        SessionCommand::Select => connection::select(arguments, out),
        SessionCommand::Status => status::execute(arguments, session, out),
        SessionCommand::Time => connection::time(arguments, session, out),
    }
    After::Stay
}

fn name_of(command: SessionCommand) -> &'static str {
    match command {
        SessionCommand::Auth => "auth",
        SessionCommand::Client => "client",
        SessionCommand::Cluster => "cluster",
        SessionCommand::Command => "command",
        SessionCommand::Config => "config",
        SessionCommand::Echo => "echo",
        SessionCommand::Hello => "hello",
        SessionCommand::Http => "post",
        SessionCommand::Info => "info",
        SessionCommand::Ping => "ping",
        SessionCommand::Quit => "quit",
        SessionCommand::ReadMode => "readonly",
        SessionCommand::Rehearse => "tf.rehearse",
        SessionCommand::Reset => "reset",
        SessionCommand::Role => "role",
        SessionCommand::Select => "select",
        SessionCommand::Status => "tf.status",
        SessionCommand::Time => "time",
    }
}

/// `ERR wrong number of arguments for 'get' command`
fn wrong_count(out: &mut Vec<u8>, name: &str) {
    let name = name.to_ascii_lowercase();
    encode::error(out, &format!("ERR wrong number of arguments for '{name}' command"));
}

/// An argument as text, for names and error replies.
fn text(argument: Option<&[u8]>) -> String {
    String::from_utf8_lossy(argument.unwrap_or(&[])).into_owned()
}

/// An argument in capitals, to compare with.
fn upper(argument: Option<&[u8]>) -> Vec<u8> {
    argument.unwrap_or(&[]).to_ascii_uppercase()
}

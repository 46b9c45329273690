//! HELP of the commands that have subcommands.

use crate::resp::encode;

const CLIENT: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Reply the name of this connection.",
    "ID",
    "    Reply the number of this connection.",
    "INFO",
    "    Reply what is known of this connection.",
    "KILL <ip:port>",
    "    Close the connection from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Close connections, and reply how many: ADDR <ip:port>, LADDR <ip:port>, ID <id>,",
    "    TYPE normal, MAXAGE <seconds>, SKIPME yes|no (default yes).",
    "LIST [TYPE normal|replica|pubsub] [ID <id> ...]",
    "    Reply a line for each connection.",
    "NO-EVICT on|off",
    "    Noted, and shown in LIST.",
    "NO-TOUCH on|off",
    "    Accepted: nothing is evicted here.",
    "REPLY on|off|skip",
    "    Whether this connection's commands are answered.",
    "SETINFO LIB-NAME|LIB-VER <value>",
    "    Name the client's library.",
    "SETNAME <name>",
    "    Name this connection.",
    "HELP",
    "    Print this help.",
];

const CLUSTER: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "COUNTKEYSINSLOT <slot>",
    "    Reply how many keys of <slot> this node holds.",
    "GETKEYSINSLOT <slot> <count>",
    "    Reply up to <count> keys of <slot> that this node holds.",
    "INFO",
    "    Reply the state of the cluster.",
    "KEYSLOT <key>",
    "    Reply the slot of <key>.",
    "MYID",
    "    Reply this node's id.",
    "NODES",
    "    Reply the nodes, with the slots that they serve.",
    "SHARDS",
    "    Reply which nodes serve which slots.",
    "SLOTS",
    "    Reply which nodes serve which slots.",
    "HELP",
    "    Print this help.",
];

const COMMAND: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Reply what there is to know about all commands.",
    "COUNT",
    "    Reply how many commands there are.",
    "DOCS [<command-name> ...]",
    "    Reply what commands do.",
    "GETKEYS <full-command>",
    "    Reply the keys of a command.",
    "INFO [<command-name> ...]",
    "    Reply what there is to know about commands.",
    "LIST",
    "    Reply the names of all commands.",
    "HELP",
    "    Print this help.",
];

const CONFIG: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Reply the settings whose names match.",
    "SET <name> <value> [<name> <value> ...]",
    "    Change settings: all of them or none.",
    "RESETSTAT",
    "    Set the counters of INFO back.",
    "REWRITE",
    "    Refused: the configuration file is yours.",
    "HELP",
    "    Print this help.",
];

/// What HELP of a command replies: lines, the command's name in lower case.
pub fn execute(command: &str, out: &mut Vec<u8>) {
    let lines = match command {
        "client" => CLIENT,
        "cluster" => CLUSTER,
        "config" => CONFIG,
        _ => COMMAND,
    };
    encode::array(out, lines.len());
    lines.iter().for_each(|line| encode::simple(out, line));
}

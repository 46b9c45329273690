//! All commands, in one table: what a client may ask, how many arguments it takes, where its keys
//! are, who answers it, and what a keyspace must be able to give for an honest answer.

use super::parse::{Parser, cluster, key, lost, once, several, string, with};
use super::verb::Needs;

/// Who answers a command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// The driver, from what it knows about the connection.
    Connection,
    /// The driver, from what it knows about the node.
    Server,
    /// The node's core: [`super::parse()`] understands it.
    Data,
}

/// What kind of command it is, as in Redis's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    /// About the connection.
    Connection,
    /// About keys of any type.
    Generic,
    /// About the server.
    Server,
    /// About strings.
    String,
}

/// Whether a command of this name answers a list of keys, as long as there are keys: such commands
/// are handed to the core one by one.
pub fn lists_keys(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"keys") || name.eq_ignore_ascii_case(b"scan")
}

/// Which keys a command concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// None.
    NoKey,
    /// One key.
    OneKey,
    /// Several keys, one by one.
    EachKey,
    /// Several keys, all or none.
    KeysTogether,
    /// All keys of the cluster.
    WholeCluster,
}

/// A command that clients may send.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    /// Its name in lower case, as in COMMAND INFO and in error texts.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// How many arguments it takes, its name included; negative: at least so many.
    pub arity: i32,
    /// As in Redis's COMMAND INFO.
    pub flags: &'static [&'static str],
    /// Where the first key is; 0 where there is none.
    pub first_key: i32,
    /// Where the last key is; negative counts from the end.
    pub last_key: i32,
    /// From one key to the next.
    pub key_step: i32,
    /// What kind of command it is.
    pub group: Group,
    /// Who answers it.
    pub scope: Scope,
    /// Which keys it concerns.
    pub reach: Reach,
    /// What it needs in its plain form: see [`super::Verb::needs`].
    pub needs: Needs,
    /// Option forms that need more.
    pub forms: &'static [(&'static str, Needs)],
    /// How the core understands its arguments.
    pub(super) parser: Option<Parser>,
}

impl CommandInfo {
    /// Whether so many arguments, the name included, are right.
    #[inline]
    pub fn accepts(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }

    /// Whether it can change data.
    pub fn is_write(&self) -> bool {
        self.flags.first() == Some(&"write")
    }

    const fn keys(mut self, last: i32, step: i32, reach: Reach) -> CommandInfo {
        self.first_key = 1;
        self.last_key = last;
        self.key_step = step;
        self.reach = reach;
        self
    }

    const fn one_key(self) -> CommandInfo {
        self.keys(1, 1, Reach::OneKey)
    }

    const fn each_key(self) -> CommandInfo {
        self.keys(-1, 1, Reach::EachKey)
    }

    const fn keys_together(self) -> CommandInfo {
        self.keys(-1, 2, Reach::KeysTogether)
    }

    const fn whole_cluster(mut self) -> CommandInfo {
        self.reach = Reach::WholeCluster;
        self
    }

    const fn needs(mut self, needs: Needs) -> CommandInfo {
        self.needs = needs;
        self
    }

    const fn forms(mut self, forms: &'static [(&'static str, Needs)]) -> CommandInfo {
        self.forms = forms;
        self
    }

    const fn about(mut self, group: Group, summary: &'static str) -> CommandInfo {
        self.group = group;
        self.summary = summary;
        self
    }
}

/// Finds a command by its name, in whatever case. Allocates nothing.
pub fn find(name: &[u8]) -> Option<&'static CommandInfo> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let place = KEYS.binary_search(&packed(name)).ok()?;
    // A name that ends in zero bytes packs like one without them.
    TABLE.get(place).filter(|info| info.name.len() == name.len())
}

/// Who answers a command; `None` where there is no such command. Quickest for GET and SET.
#[inline]
pub fn scope(name: &[u8]) -> Option<Scope> {
    let frequent =
        name.len() == 3 && (name.eq_ignore_ascii_case(b"get") || name.eq_ignore_ascii_case(b"set"));
    if frequent { Some(Scope::Data) } else { Some(find(name)?.scope) }
}

/// All commands, sorted by name.
pub fn all() -> &'static [CommandInfo] {
    &TABLE
}

/// No command's name is longer.
const NAME_BYTES_MAX: usize = 16;

/// The names of the table's commands, packed, in the same order.
static KEYS: [u128; TABLE.len()] = {
    let mut keys = [0; TABLE.len()];
    let mut place = 0;
    while place < keys.len() {
        keys[place] = packed(TABLE[place].name.as_bytes());
        place += 1;
    }
    keys
};

/// A short name in lower case as one number, which sorts as the name does.
#[inline]
const fn packed(name: &[u8]) -> u128 {
    let mut number = 0;
    let mut place = 0;
    while place < NAME_BYTES_MAX {
        let byte = if place < name.len() { name[place].to_ascii_lowercase() } else { 0 };
        number = number << 8 | byte as u128;
        place += 1;
    }
    number
}

const fn base(name: &'static str, arity: i32, flags: &'static [&'static str]) -> CommandInfo {
    CommandInfo {
        name,
        summary: "",
        arity,
        flags,
        first_key: 0,
        last_key: 0,
        key_step: 0,
        group: Group::Generic,
        scope: Scope::Data,
        reach: Reach::NoKey,
        needs: Needs::Nothing,
        forms: &[],
        parser: None,
    }
}

const fn connection(name: &'static str, arity: i32, flags: Flags) -> CommandInfo {
    let mut info = base(name, arity, flags);
    info.scope = Scope::Connection;
    info
}

const fn server(name: &'static str, arity: i32, flags: Flags) -> CommandInfo {
    let mut info = base(name, arity, flags);
    info.scope = Scope::Server;
    info
}

const fn data(name: &'static str, arity: i32, flags: Flags, parser: Parser) -> CommandInfo {
    let mut info = base(name, arity, flags);
    info.parser = Some(parser);
    info
}

type Flags = &'static [&'static str];

/// R: readonly, W: write, O: denyoom, F: fast.
const R: Flags = &["readonly"];
const RF: Flags = &["readonly", "fast"];
const W: Flags = &["write"];
const WF: Flags = &["write", "fast"];
const WO: Flags = &["write", "denyoom"];
const WOF: Flags = &["write", "denyoom", "fast"];
const CONN: Flags = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];
const FAST: Flags = &["loading", "stale", "fast"];
const FASTONLY: Flags = &["fast"];
const NOSCRIPT: Flags = &["noscript"];
const ADMIN: Flags = &["admin", "noscript"];
const ROLE: Flags = &["noscript", "loading", "stale", "fast"];
const SLOW: Flags = &[];
const STALE: Flags = &["loading", "stale"];
const TFWITH: Flags = &["write", "denyoom", "movablekeys"];

const SET_FORMS: &[(&str, Needs)] =
    &[("`KEEPTTL`", Needs::Register), ("`NX`, `XX`, `GET`", Needs::Coordination)];
const EXPIRE_FORMS: &[(&str, Needs)] = &[("`NX`, `XX`, `GT`, `LT`", Needs::Coordination)];

static TABLE: [CommandInfo; 66] = [
    data("append", 3, WOF, string::append)
        .one_key()
        .needs(Needs::Register)
        .about(Group::String, "Appends to a string."),
    connection("auth", -2, CONN).about(
        Group::Connection,
        "There are no users yet: refused, as Redis refuses without a password.",
    ),
    connection("client", -2, SLOW).about(
        Group::Connection,
        "`ID`, `INFO`, `LIST`, `KILL`, `SETNAME`, `GETNAME`, `SETINFO`, `NO-EVICT`, `NO-TOUCH`, \
         `REPLY`, `HELP`.",
    ),
    server("cluster", -2, STALE).about(
        Group::Server,
        "For cluster-aware clients: `SLOTS`, `SHARDS`, `NODES`, `INFO`, `MYID`, `KEYSLOT`, \
         `COUNTKEYSINSLOT`, `GETKEYSINSLOT`, `HELP`, about the keyspace that `slots-keyspace` \
         names.",
    ),
    server("command", -1, STALE).about(Group::Server, "The commands; `COUNT`, `DOCS`, `INFO`."),
    server("config", -2, SLOW)
        .about(Group::Server, "`GET` and `SET` of the settings that there are."),
    data("dbsize", 1, RF, cluster::dbsize)
        .whole_cluster()
        .about(Group::Server, "How many keys there are."),
    data("decr", 2, WOF, string::decr).one_key().about(Group::String, "Takes 1 from a counter."),
    data("decrby", 3, WOF, string::decrby)
        .one_key()
        .about(Group::String, "Takes a whole number from a counter."),
    data("del", -2, W, several::delete)
        .each_key()
        .about(Group::Generic, "Removes keys; replies how many there were."),
    connection("echo", 2, FAST).about(Group::Connection, "Replies its argument."),
    data("exists", -2, RF, several::exists)
        .each_key()
        .about(Group::Generic, "How many of the keys exist."),
    data("expire", -3, WF, key::expire)
        .one_key()
        .forms(EXPIRE_FORMS)
        .about(Group::Generic, "Lets a key expire in so many seconds."),
    data("expireat", -3, WF, key::expireat)
        .one_key()
        .forms(EXPIRE_FORMS)
        .about(Group::Generic, "Lets a key expire at a moment, in seconds since 1970."),
    data("expiretime", 2, RF, key::expiretime)
        .one_key()
        .about(Group::Generic, "When a key expires, in seconds since 1970."),
    data("flushall", -1, W, cluster::flush)
        .whole_cluster()
        .about(Group::Server, "Removes all keys."),
    data("flushdb", -1, W, cluster::flush)
        .whole_cluster()
        .about(Group::Server, "Removes all keys: there is one database."),
    data("get", 2, RF, string::get).one_key().about(Group::String, "The value of a key."),
    data("getdel", 2, WF, string::getdel)
        .one_key()
        .needs(Needs::Coordination)
        .about(Group::String, "The value of a key, which is removed."),
    data("getex", -2, WF, string::getex)
        .one_key()
        .about(Group::String, "The value of a key, whose deadline is set or taken away."),
    data("getrange", 4, R, string::getrange).one_key().about(Group::String, "A part of a string."),
    data("getset", 3, WOF, string::getset)
        .one_key()
        .needs(Needs::Coordination)
        .about(Group::String, "Sets a key and replies the old value."),
    connection("hello", -1, CONN)
        .about(Group::Connection, "Which protocol to speak: RESP2 or RESP3."),
    data("incr", 2, WOF, string::incr).one_key().about(Group::String, "Adds 1 to a counter."),
    data("incrby", 3, WOF, string::incrby)
        .one_key()
        .about(Group::String, "Adds a whole number to a counter."),
    data("incrbyfloat", 3, WOF, string::incrbyfloat)
        .one_key()
        .about(Group::String, "Adds a fractional number to a counter."),
    server("info", -1, STALE).about(Group::Server, "What the node knows about itself."),
    data("keys", 2, R, cluster::keys)
        .whole_cluster()
        .about(Group::Generic, "All keys that match a pattern."),
    data("mget", -2, RF, several::mget)
        .each_key()
        .about(Group::String, "The values of several keys."),
    data("mset", -3, WO, several::mset)
        .keys_together()
        .about(Group::String, "Sets several keys, all or none."),
    data("persist", 2, WF, key::persist)
        .one_key()
        .about(Group::Generic, "Takes a key's deadline away."),
    data("pexpire", -3, WF, key::pexpire)
        .one_key()
        .forms(EXPIRE_FORMS)
        .about(Group::Generic, "Lets a key expire in so many milliseconds."),
    data("pexpireat", -3, WF, key::pexpireat)
        .one_key()
        .forms(EXPIRE_FORMS)
        .about(Group::Generic, "Lets a key expire at a moment, in milliseconds since 1970."),
    data("pexpiretime", 2, RF, key::pexpiretime)
        .one_key()
        .about(Group::Generic, "When a key expires, in milliseconds since 1970."),
    connection("ping", -1, FASTONLY).about(Group::Connection, "Replies PONG, or its argument."),
    data("psetex", 4, WO, string::psetex)
        .one_key()
        .about(Group::String, "Sets a key that expires in so many milliseconds."),
    data("pttl", 2, RF, key::pttl)
        .one_key()
        .about(Group::Generic, "In how many milliseconds a key expires."),
    connection("quit", -1, CONN).about(Group::Connection, "Closes the connection."),
    data("randomkey", 1, R, cluster::randomkey).whole_cluster().about(Group::Generic, "Any key."),
    connection("readonly", 1, FAST).about(
        Group::Connection,
        "This connection is a cluster-aware client's that reads at followers: its reads are not \
         `-MOVED`, its writes are.",
    ),
    connection("readwrite", 1, FAST).about(Group::Connection, "Takes READONLY back."),
    connection("reset", 1, CONN)
        .about(Group::Connection, "Makes the connection as if it were new."),
    server("role", 1, ROLE).about(Group::Server, "What the node leads and follows."),
    data("scan", -2, R, cluster::scan)
        .whole_cluster()
        .about(Group::Generic, "The keys, piece by piece."),
    connection("select", 2, FAST).about(Group::Connection, "There is only database 0."),
    data("set", -3, WO, string::set).one_key().forms(SET_FORMS).about(Group::String, "Sets a key."),
    data("setex", 4, WO, string::setex)
        .one_key()
        .about(Group::String, "Sets a key that expires in so many seconds."),
    data("setnx", 3, WOF, string::setnx)
        .one_key()
        .needs(Needs::Coordination)
        .about(Group::String, "Sets a key that does not exist."),
    data("setrange", 4, WO, string::setrange)
        .one_key()
        .needs(Needs::Register)
        .about(Group::String, "Writes over a part of a string."),
    data("strlen", 2, RF, string::strlen).one_key().about(Group::String, "How long a string is."),
    data("tf.degraded", -2, SLOW, cluster::degraded).about(
        Group::Server,
        "`LIST [prefix]`: where writes were acknowledged with fewer acks than declared.",
    ),
    data("tf.explain", 2, SLOW, cluster::explain)
        .about(Group::Server, "What the keyspace of a prefix guarantees, and what it does not."),
    data("tf.lost", -2, W, lost::lost).about(
        Group::Server,
        "Writes that a failover has cost: `LIST [prefix] [COUNT n] [AFTER id]`, `SHOW id`, \
         `REPLAY id`, `FORGET id`.",
    ),
    data("tf.once", -5, TFWITH, once::once).about(
        Group::Server,
        "`TF.ONCE session number -- INCR k`: carried out once, however often it is sent.",
    ),
    data("tf.outcome", 2, SLOW, cluster::outcome).about(
        Group::Server,
        "What has become of a write that was answered `-UNKNOWN`, by its token: `COMMITTED`, \
         `LOST` or `PENDING`. That reply says how many acks the write had and how many it needs \
         (`acked=1 need=2`); `acked=?` comes from a node that has handed the write on and has \
         heard no answer.",
    ),
    data("tf.recover", 2, NOSCRIPT, cluster::recover).about(
        Group::Server,
        "Where too few known disks are left to elect a leader: this node goes on with what it has.",
    ),
    server("tf.rehearse", 2, STALE).about(
        Group::Server,
        "`TF.REHEARSE timeout-ms`: how many elections an election timeout would have started here \
         in the last day.",
    ),
    server("tf.status", 1, STALE).about(Group::Server, "The cluster as this node sees it."),
    data("tf.switchover", -2, ADMIN, cluster::switchover).about(
        Group::Server,
        "`TF.SWITCHOVER prefix [node]`: the keyspace gets another leader, without loss; replies \
         leader, epoch and pause in milliseconds for each partition.",
    ),
    data("tf.with", -3, TFWITH, with::with).about(
        Group::Server,
        "`TF.WITH ACKS sync -- SET k v`, `TF.WITH W 3 -- SET k v`: one command with its own acks \
         or quorums.",
    ),
    server("time", 1, FAST).about(Group::Server, "The node's clock."),
    data("ttl", 2, RF, key::ttl)
        .one_key()
        .about(Group::Generic, "In how many seconds a key expires."),
    data("type", 2, RF, key::kind)
        .one_key()
        .about(Group::Generic, "What a key holds: `string` or `none`."),
    data("unlink", -2, WF, several::delete)
        .each_key()
        .about(Group::Generic, "Removes keys; replies how many there were."),
    data("wait", 3, NOSCRIPT, cluster::wait)
        .about(Group::Generic, "Waits until so many followers have the connection's last write."),
    data("waitaof", 4, NOSCRIPT, cluster::waitaof).about(
        Group::Generic,
        "Waits until the leader and so many followers have the connection's last write on disk.",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for info in all() {
            assert!(core::ptr::eq(find(info.name.as_bytes()).unwrap(), info));
            assert_eq!(scope(info.name.as_bytes()), Some(info.scope));
            assert!(core::ptr::eq(find(info.name.to_uppercase().as_bytes()).unwrap(), info));
        }
        for name in [b"" as &[u8], b"ge", b"gett", b"get\0", b"seventeen letters"] {
            assert!(find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(all().is_sorted_by_key(|info| info.name));
        for info in all() {
            assert_eq!(info.parser.is_some(), info.scope == Scope::Data, "{}", info.name);
            assert!(!info.summary.is_empty() && info.name.len() <= NAME_BYTES_MAX);
        }
    }
}

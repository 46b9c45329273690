//! `docs/commands.md` is made from the table of commands; this fails when the two differ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use replication::command::table::Reach;
use replication::command::verb::Needs;
use replication::command::{CommandInfo, Scope, all};
use std::fmt::Write;
use std::path::Path;

/// A replication model, by what its keyspaces can give to a command.
#[derive(Clone, Copy, PartialEq)]
struct Model {
    gives: Needs,
    /// What MSET means.
    together: &'static str,
    /// What WAIT counts.
    wait: &'static str,
    /// What WAITAOF counts.
    on_disk: &'static str,
    /// What `TF.WITH` may choose.
    with: &'static str,
    /// Whether there are tokens for `TF.OUTCOME`, and a ledger for `TF.DEGRADED`.
    tokens: &'static str,
    ledger: &'static str,
}

const ONE_ENTRY: &str = "one entry in one partition; several partitions: `-CROSSSLOT`, several \
                         keyspaces: `-CROSSMODEL`";

/// Leader-follower, multi-leader, leaderless.
const MODELS: [Model; 3] = [
    Model {
        gives: Needs::Coordination,
        together: ONE_ENTRY,
        wait: "followers that have it",
        on_disk: "the leader, and followers that have it",
        with: "`ACKS`, `LEVEL`",
        tokens: "yes",
        ledger: "yes",
    },
    Model {
        gives: Needs::Register,
        together: ONE_ENTRY,
        wait: "followers in the leader's datacenter that have it",
        on_disk: "the leader, and followers in its datacenter that have it",
        with: "`ACKS`, `LEVEL`: in the leader's datacenter",
        tokens: "yes: in its datacenter",
        ledger: "yes, per datacenter",
    },
    Model {
        gives: Needs::Nothing,
        together: "one key; several: `-CROSSSLOT`",
        wait: "acks of the write, less one",
        on_disk: "acks of the write, where they are on disk",
        with: "`W`, `R`",
        tokens: "there are none",
        ledger: "nothing is degraded",
    },
];

const HEAD: &str = "# Commands

Made from the table of commands in `crates/replication/src/command/table.rs`; a test compares the
two. To make this page anew: `UPDATE=1 cargo test -p replication --test commands_page`.

Every node answers every command, for any key: it handles the key or asks the node that does.
Semantics and error texts are those of Redis 7. What a keyspace's model cannot promise is refused
with `-NEEDCOORD`, never half done: what claims or compares needs one leader for all writes of the
key, and what makes a new value from the old one needs a newest value to start from.

";

const DATA_HEAD: &str = "## Data

*Key by key*: each key is handled as if it were asked alone, by the model of its own keyspace, and
the answers are put together. *Whole cluster*: all keys of all keyspaces, whatever their model and
wherever they are; taken apart into a part for each partition. A write of several parts is an error
if any of them fails, and its first word tells the worst of them: `-UNKNOWN done=1 failed=1
unknown=2 token=... token=...` if any part may be done or not, with the token of each such part for
`TF.OUTCOME` (16 at most), also where others were refused or done; `-PARTIAL done=2 failed=1` if
every part is known, and some of the command is done; any other error only if nothing was done.
`WAIT` and `WAITAOF` behind it speak of all its parts, and answer the least (of more than 1024
partitions they cannot tell: an error).
Counters (the `INCR` family) work in every model: increments that were made at the same time add up.

| command | what it does | leader-follower | multi-leader | leaderless |
|---|---|---|---|---|
";

/// What the table has no room for.
const TAIL: &str = include_str!("commands_tail.md");

fn page() -> String {
    let mut page = String::from(HEAD);
    for (title, scope) in [("Connection", Scope::Connection), ("Server", Scope::Server)] {
        page += &format!("## {title}\n\nAnswered by the node that the client is connected to.\n\n");
        page += "| command | what it does |\n|---|---|\n";
        for info in all().iter().filter(|info| info.scope == scope) {
            writeln!(page, "| {} | {} |", info.name.to_uppercase(), info.summary).unwrap();
        }
        page.push('\n');
    }
    page += DATA_HEAD;
    for info in all().iter().filter(|info| info.scope == Scope::Data) {
        let [leader_follower, multi_leader, leaderless] = MODELS.map(|model| cell(info, model));
        let name = info.name.to_uppercase();
        writeln!(
            page,
            "| {name} | {} | {leader_follower} | {multi_leader} | {leaderless} |",
            info.summary
        )
        .unwrap();
    }
    page + TAIL
}

/// What a command comes to in a keyspace of a model.
fn cell(info: &CommandInfo, model: Model) -> String {
    match (info.name, info.reach) {
        ("tf.once", _) if model.gives < Needs::Coordination => return "no".into(),
        ("wait", _) => return model.wait.into(),
        ("waitaof", _) => return model.on_disk.into(),
        ("tf.with", _) => return model.with.into(),
        ("tf.switchover" | "tf.recover" | "tf.lost", _) if model.gives == Needs::Nothing => {
            return "no: there are no leaders".into();
        }
        ("tf.outcome", _) => return model.tokens.into(),
        ("tf.degraded", _) => return model.ledger.into(),
        ("del" | "unlink", _) if model.gives > Needs::Nothing => {
            return "one entry in each partition".into();
        }
        (_, Reach::EachKey) => return "key by key".into(),
        (_, Reach::KeysTogether) => return model.together.into(),
        (_, Reach::WholeCluster) => return "whole cluster".into(),
        (_, Reach::NoKey | Reach::OneKey) => {}
    }
    if info.needs > model.gives {
        return "`-NEEDCOORD`".into();
    }
    let refused: Vec<&str> = info
        .forms
        .iter()
        .filter(|(_, needs)| *needs > model.gives)
        .map(|(form, _)| *form)
        .collect();
    match refused.as_slice() {
        [] => "yes".into(),
        forms => format!("yes; with {}: `-NEEDCOORD`", forms.join(", ")),
    }
}

#[test]
fn the_page_of_commands_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    let expected = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("docs/commands.md can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/commands.md is not what the table of commands says: make it anew with\n  \
         UPDATE=1 cargo test -p replication --test commands_page\nand look at the difference"
    );
}

#[test]
fn what_claims_is_refused_where_nobody_can_grant_it() {
    let cells = |name: &str| {
        let info = all().iter().find(|info| info.name == name).unwrap();
        MODELS.map(|model| cell(info, model))
    };
    assert_eq!(cells("get"), ["yes"; 3]);
    assert_eq!(cells("incr"), ["yes"; 3]);
    assert_eq!(cells("setnx"), ["yes", "`-NEEDCOORD`", "`-NEEDCOORD`"]);
    assert_eq!(cells("append"), ["yes", "yes", "`-NEEDCOORD`"]);
    assert!(cells("set")[1].contains("`NX`") && cells("set")[0] == "yes");
}

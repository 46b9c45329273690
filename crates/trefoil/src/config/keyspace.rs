//! From a `[[keyspace]]` table to a keyspace: defaults, names, ranges, and which option belongs
//! to which model.

use super::Problem;
use super::file::{File, KeyspaceTable};
use replication::DatacenterId;
use replication::keyspace::check::Contradiction;
use replication::keyspace::{
    AckLevel, Acks, Cluster, Conflicts, Durability, Failover, GroupOptions, LeaderFollower,
    Leaderless, Member, MissingAcks, Model, MultiLeader, Reads, SLOTS, defaults,
};
use std::ops::Range;
use toml::Spanned;

/// The longest timeout that may be asked for.
const TIMEOUT_MS_MAX: i64 = 3_600_000;
/// The most replicas that a key may have.
const REPLICAS_MAX: i64 = 99;
/// Bytes of a prefix.
const PREFIX_BYTES_MAX: usize = 512;

const GROUP: [&str; 10] = [
    "replicas",
    "acks",
    "ack-level",
    "weaker-acks",
    "ack-timeout-ms",
    "when-acks-are-missing",
    "failover",
    "reads",
    "leases",
    "disk-stall-ms",
];

/// Reads all keyspaces.
pub fn check(
    tables: &[Spanned<KeyspaceTable>],
    datacenters: &[String],
    members: &[Member],
    problems: &mut Vec<Problem>,
) -> Vec<(Vec<u8>, Model)> {
    let mut keyspaces: Vec<(Vec<u8>, Model)> = Vec::new();
    for table in tables {
        let table = table.get_ref();
        let prefix = table.prefix.get_ref().as_bytes().to_vec();
        if keyspaces.iter().any(|(other, _)| *other == prefix) {
            let text = format!("two keyspaces have the prefix \"{}\"", table.prefix.get_ref());
            problems.push(Problem::at(table.prefix.span(), text));
        }
        if prefix.len() > PREFIX_BYTES_MAX {
            let text = format!("a prefix has at most {PREFIX_BYTES_MAX} bytes");
            problems.push(Problem::at(table.prefix.span(), text));
        }
        if let Some(model) = (Reader { table, datacenters, members, problems }).model() {
            keyspaces.push((prefix, model));
        }
    }
    keyspaces
}

/// Makes the cluster; what contradicts itself is reported at the line of its keyspace.
pub fn assemble(
    file: &File,
    name: String,
    secret: u64,
    datacenters: Vec<String>,
    members: Vec<Member>,
    keyspaces: Vec<(Vec<u8>, Model)>,
    problems: &mut Vec<Problem>,
) -> Option<Cluster> {
    match Cluster::new(name, secret, datacenters, members, keyspaces) {
        Ok(cluster) => Some(cluster),
        Err(contradictions) => {
            problems.extend(contradictions.into_iter().map(|wrong| locate(file, wrong)));
            None
        }
    }
}

/// A contradiction at the line of its option, else of its keyspace.
fn locate(file: &File, wrong: Contradiction) -> Problem {
    let message = wrong.to_string();
    let is_meant = |table: &&Spanned<KeyspaceTable>| {
        Some(table.get_ref().prefix.get_ref().as_bytes()) == wrong.prefix.as_deref()
    };
    let Some(table) = file.keyspace.iter().find(is_meant) else {
        return Problem::somewhere(message);
    };
    let options = given(table.get_ref()).into_iter();
    let option = options.filter(|(name, _)| *name == wrong.option).find_map(|(_, span)| span);
    Problem::at(option.unwrap_or_else(|| table.span()), message)
}

/// The options that not every model has, with their places.
fn given(table: &KeyspaceTable) -> [(&'static str, Option<Range<usize>>); 18] {
    [
        ("partitions", table.partitions.as_ref().map(Spanned::span)),
        ("replicas", table.replicas.as_ref().map(Spanned::span)),
        ("home", table.home.as_ref().map(Spanned::span)),
        ("acks", table.acks.as_ref().map(Spanned::span)),
        ("ack-level", table.ack_level.as_ref().map(Spanned::span)),
        ("weaker-acks", table.weaker_acks.as_ref().map(Spanned::span)),
        ("ack-timeout-ms", table.ack_timeout_ms.as_ref().map(Spanned::span)),
        ("when-acks-are-missing", table.when_acks_are_missing.as_ref().map(Spanned::span)),
        ("failover", table.failover.as_ref().map(Spanned::span)),
        ("reads", table.reads.as_ref().map(Spanned::span)),
        ("leases", table.leases.as_ref().map(Spanned::span)),
        ("disk-stall-ms", table.disk_stall_ms.as_ref().map(Spanned::span)),
        ("datacenters", table.datacenters.as_ref().map(Spanned::span)),
        ("conflicts", table.conflicts.as_ref().map(Spanned::span)),
        ("n", table.n.as_ref().map(Spanned::span)),
        ("w", table.w.as_ref().map(Spanned::span)),
        ("r", table.r.as_ref().map(Spanned::span)),
        ("timeout-ms", table.timeout_ms.as_ref().map(Spanned::span)),
    ]
}

struct Reader<'a> {
    table: &'a KeyspaceTable,
    datacenters: &'a [String],
    members: &'a [Member],
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn model(&mut self) -> Option<Model> {
        let model = &self.table.model;
        let name = model.get_ref().as_str();
        let problems = self.problems.len();
        let read = match name {
            "leader-follower" => {
                self.refuse_others(name, &[&GROUP[..], &["home"]].concat());
                self.leader_follower().map(Model::LeaderFollower)
            }
            "multi-leader" => {
                self.refuse_others(name, &[&GROUP[..], &["datacenters", "conflicts"]].concat());
                self.multi_leader().map(Model::MultiLeader)
            }
            "leaderless" => {
                self.refuse_others(name, &["n", "w", "r", "timeout-ms"]);
                self.leaderless().map(Model::Leaderless)
            }
            _ => {
                let text = format!("unknown replication model `{name}`");
                let help = "the models are `leader-follower`, `multi-leader` and `leaderless`";
                self.problems.push(Problem::at(model.span(), text).help(help));
                None
            }
        };
        read.filter(|_| self.problems.len() == problems)
    }

    fn leader_follower(&mut self) -> Option<LeaderFollower> {
        let home = match &self.table.home {
            Some(name) => self.datacenter(name)?,
            None => DatacenterId(0),
        };
        let partitions = self.partitions(defaults::PARTITIONS);
        Some(LeaderFollower { home, partitions, group: self.group(&[home]) })
    }

    fn multi_leader(&mut self) -> Option<MultiLeader> {
        let datacenters = match &self.table.datacenters {
            Some(names) => self.datacenters(names)?,
            None => (0..).map(DatacenterId).take(self.datacenters.len()).collect(),
        };
        let conflicts = Conflicts::LastWriteWins;
        let table = self.table;
        let known = [("last-write-wins", conflicts)];
        let not_yet = ["siblings", "merge"];
        let conflicts =
            self.choice("conflicts", table.conflicts.as_ref(), conflicts, &known, &not_yet);
        let partitions = self.partitions(defaults::PARTITIONS);
        let group = self.group(&datacenters);
        Some(MultiLeader { datacenters, partitions, group, conflicts })
    }

    fn leaderless(&mut self) -> Option<Leaderless> {
        let table = self.table;
        let default = Leaderless::defaults(self.members.len());
        let n = self.count("n", table.n.as_ref(), default.n);
        let timeout = table.timeout_ms.as_ref();
        Some(Leaderless {
            partitions: self.partitions(default.partitions),
            n,
            w: self.count("w", table.w.as_ref(), defaults::majority(n)),
            r: self.count("r", table.r.as_ref(), defaults::majority(n)),
            durability: self.durability(),
            timeout_ms: self.milliseconds("timeout-ms", timeout, default.timeout_ms),
        })
    }

    /// The options of a group in each of these datacenters.
    fn group(&mut self, datacenters: &[DatacenterId]) -> GroupOptions {
        let table = self.table;
        let default = default_group(self.members, datacenters);
        let replicas = self.count("replicas", table.replicas.as_ref(), default.replicas);
        let acks = self.acks();
        let failover = Failover::default_for(acks);
        let known = [("safe", Failover::Safe), ("available", Failover::Available)];
        let failover = self.choice("failover", table.failover.as_ref(), failover, &known, &[]);
        let known = [
            ("error", MissingAcks::Error),
            ("block", MissingAcks::Block),
            ("degrade", MissingAcks::Degrade),
        ];
        let missing_acks = self.choice(
            "when-acks-are-missing",
            table.when_acks_are_missing.as_ref(),
            default.missing_acks,
            &known,
            &[],
        );
        let known = [("leader", Reads::Leader), ("follower", Reads::Follower)];
        let reads = self.choice("reads", table.reads.as_ref(), default.reads, &known, &["nearest"]);
        let timeout = table.ack_timeout_ms.as_ref();
        let ack_timeout_ms = self.milliseconds("ack-timeout-ms", timeout, default.ack_timeout_ms);
        let known = [
            ("received", AckLevel::Received),
            ("durable", AckLevel::Durable),
            ("applied", AckLevel::Applied),
        ];
        let level = table.ack_level.as_ref();
        let stall = table.disk_stall_ms.as_ref();
        let disk_stall_ms = self.milliseconds("disk-stall-ms", stall, default.disk_stall_ms);
        GroupOptions {
            replicas,
            acks,
            failover,
            missing_acks,
            ack_timeout_ms,
            ack_level: self.choice("ack-level", level, default.ack_level, &known, &[]),
            weaker_acks: table.weaker_acks.as_ref().is_some_and(|weaker| *weaker.get_ref()),
            reads,
            leases: table.leases.as_ref().map_or(default.leases, |leases| *leases.get_ref()),
            durability: self.durability(),
            disk_stall_ms,
        }
    }

    fn acks(&mut self) -> Acks {
        let Some(value) = &self.table.acks else { return Acks::Majority };
        match value.get_ref() {
            toml::Value::Integer(count) if (1..=REPLICAS_MAX).contains(count) => {
                Acks::Exactly(*count as u8)
            }
            toml::Value::String(name) if name == "async" => Acks::Async,
            toml::Value::String(name) if name == "semi-sync" => Acks::SemiSync,
            toml::Value::String(name) if name == "sync" => Acks::Sync,
            toml::Value::String(name) if name == "majority" => Acks::Majority,
            other => {
                let text = format!("`acks` cannot be {other}");
                let help = "`async`, `semi-sync`, `sync`, `majority`, or a number of replicas";
                self.problems.push(Problem::at(value.span(), text).help(help));
                Acks::Majority
            }
        }
    }

    fn durability(&mut self) -> Durability {
        let table = self.table;
        let known = [("fsync", Durability::Fsync), ("interval-1s", Durability::Interval)];
        self.choice("durability", table.durability.as_ref(), Durability::Fsync, &known, &[])
    }

    fn partitions(&mut self, default: u16) -> u16 {
        let table = self.table;
        let most = i64::from(SLOTS);
        self.number("partitions", table.partitions.as_ref(), i64::from(default), most) as u16
    }

    fn count(&mut self, name: &str, value: Option<&Spanned<i64>>, default: u8) -> u8 {
        self.number(name, value, i64::from(default), REPLICAS_MAX) as u8
    }

    fn milliseconds(&mut self, name: &str, value: Option<&Spanned<i64>>, default: u64) -> u64 {
        self.number(name, value, default as i64, TIMEOUT_MS_MAX).unsigned_abs()
    }

    /// A number from 1 to `most`.
    fn number(&mut self, name: &str, value: Option<&Spanned<i64>>, default: i64, most: i64) -> i64 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if !(1..=most).contains(&number) {
            let text = format!("`{name}` has to be a number from 1 to {most}, not {number}");
            self.problems.push(Problem::at(value.span(), text));
            return default;
        }
        number
    }

    /// One of a few names.
    fn choice<T: Copy>(
        &mut self,
        name: &str,
        value: Option<&Spanned<String>>,
        default: T,
        known: &[(&str, T)],
        not_yet: &[&str],
    ) -> T {
        let Some(value) = value else { return default };
        let wanted = value.get_ref().as_str();
        if let Some((_, choice)) = known.iter().find(|(known, _)| *known == wanted) {
            return *choice;
        }
        let text = match not_yet.contains(&wanted) {
            true => format!("`{name} = \"{wanted}\"` is not available in this version"),
            false => format!("`{name}` cannot be \"{wanted}\""),
        };
        let known: Vec<String> = known.iter().map(|(known, _)| format!("\"{known}\"")).collect();
        let help = format!("`{name}` is {}", known.join(" or "));
        self.problems.push(Problem::at(value.span(), text).help(help));
        default
    }

    fn datacenters(&mut self, names: &Spanned<Vec<Spanned<String>>>) -> Option<Vec<DatacenterId>> {
        let mut found = Vec::new();
        for name in names.get_ref() {
            let datacenter = self.datacenter(name)?;
            if found.contains(&datacenter) {
                let text = format!("the datacenter `{}` is listed twice", name.get_ref());
                self.problems.push(Problem::at(name.span(), text));
            }
            found.push(datacenter);
        }
        if found.is_empty() {
            let text = "`datacenters` is empty: a multi-leader keyspace has at least one leader";
            self.problems.push(Problem::at(names.span(), text));
            return None;
        }
        Some(found)
    }

    fn datacenter(&mut self, name: &Spanned<String>) -> Option<DatacenterId> {
        let place = self.datacenters.iter().position(|known| known == name.get_ref());
        if place.is_none() {
            let text = format!("no node is in the datacenter `{}`", name.get_ref());
            let help = format!("the nodes' datacenters are: {}", self.datacenters.join(", "));
            self.problems.push(Problem::at(name.span(), text).help(help));
        }
        place.and_then(|place| u8::try_from(place).ok()).map(DatacenterId)
    }

    /// Refuses the options of the other models.
    fn refuse_others(&mut self, model: &str, own: &[&str]) {
        for (name, span) in given(self.table) {
            let Some(span) = span.filter(|_| name != "partitions" && !own.contains(&name)) else {
                continue;
            };
            let text = format!("`{name}` is not an option of a {model} keyspace");
            let help = format!(
                "a {model} keyspace has `prefix`, `partitions`, `durability`, `{}`",
                own.join("`, `")
            );
            self.problems.push(Problem::at(span, text).help(help));
        }
    }
}

/// The options of a group that says nothing.
fn default_group(members: &[Member], datacenters: &[DatacenterId]) -> GroupOptions {
    let in_one = |wanted: &DatacenterId| {
        members.iter().filter(|member| member.datacenter == *wanted).count()
    };
    let smallest = datacenters.iter().map(in_one).min().unwrap_or(1);
    GroupOptions::defaults(defaults::replicas(smallest))
}

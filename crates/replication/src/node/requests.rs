//! From a client's arguments to the group that they are for.

use super::Roles;
use super::gather::Kind;
use super::message::encode_arguments;
use super::part::Part;
use super::routes::Routes;
use crate::command::verb::{EachVerb, Needs, With};
use crate::command::{self, Action, Command, KeyCommand, OnceId};
use crate::keyspace::{Keyspace, Model};
use crate::multi_leader;
use crate::turn::{Requester, Turn};
use crate::{Arguments, GroupId, Reply, RequestId, Requests};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// The longest that a WAIT waits, in milliseconds: an hour. Without an end, each WAIT of a client
/// that has gone, or for more followers than there are, would stay in its leader's memory.
const WAIT_MS_MAX: u64 = 3_600_000;

pub(super) const NO_KEYSPACE: &str = "ERR no keyspace holds this key";

/// Something for one group to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Work<'a> {
    /// A command on one key.
    Key(KeyCommand<'a>, With),
    /// MSET within one partition: key, value, key, value, ...
    SetMany(Arguments<'a>, With),
    /// DEL of several keys of one partition.
    DeleteMany(Arguments<'a>, With),
    /// A command on one key or MSET, carried out at most once however often it is sent.
    Once(OnceId<'a>, Box<Work<'a>>),
    /// The group's share of something larger.
    Part(Part<'a>),
}

impl Work<'_> {
    /// What its client says about how to carry it out, where he says something.
    pub fn with(&self) -> Option<With> {
        match self {
            Work::Key(_, with) | Work::SetMany(_, with) | Work::DeleteMany(_, with) => {
                Some(*with).filter(|with| *with != With::default())
            }
            Work::Once(_, work) => work.with(),
            Work::Part(_) => None,
        }
    }

    /// Whether it can change something: then its outcome is open when an answer fails to come.
    pub fn is_write(&self) -> bool {
        match self {
            Work::Key(command, _) => command.verb.is_write(),
            Work::SetMany(..) | Work::DeleteMany(..) | Work::Once(..) => true,
            Work::Part(part) => part.is_write(),
        }
    }
}

impl Roles {
    /// What one read of a client's socket held.
    pub(super) fn on_requests(&mut self, turn: &mut Turn<'_>, requests: &Requests<'_>) {
        let connection = turn.local.connections.open(requests.client);
        if connection.relabel(requests.label) {
            turn.local.asker = None;
        }
        for (request, arguments) in requests.iter() {
            self.on_request(turn, request, arguments);
        }
    }

    /// A command of a client of this node.
    fn on_request(&mut self, turn: &mut Turn<'_>, request: RequestId, arguments: Arguments<'_>) {
        turn.local.asks(request);
        let requester = Requester::Client(request);
        if let Some(command) = command::plain(arguments) {
            let encode = |out: &mut Vec<u8>| encode_arguments(&arguments, out);
            return self.start_key(turn, requester, &command, With::default(), &encode);
        }
        match command::parse(arguments) {
            Ok(command) => self.start(turn, requester, request, &command, arguments),
            Err(error) => turn.answer(requester, error, None),
        }
    }

    fn start(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        request: RequestId,
        command: &Command<'_>,
        arguments: Arguments<'_>,
    ) {
        match &command.action {
            Action::Key(key_command) => {
                let encode = |out: &mut Vec<u8>| encode_arguments(&arguments, out);
                self.start_key(turn, requester, key_command, command.with, &encode);
            }
            Action::Each { verb, keys } => {
                self.start_each(turn, requester, *verb, *keys, command.with);
            }
            Action::SetMany { pairs } => {
                self.start_set_many(turn, requester, (*pairs, command.with), arguments, None);
            }
            Action::Once { id, command } => match &command.action {
                Action::Key(key_command) => {
                    let work = Work::Key(*key_command, command.with);
                    let work = Work::Once(*id, Box::new(work));
                    self.start_once(turn, requester, key_command.key, &work, arguments);
                }
                Action::SetMany { pairs } => {
                    self.start_set_many(
                        turn,
                        requester,
                        (*pairs, command.with),
                        arguments,
                        Some(*id),
                    );
                }
                _ => turn.refuse(requester, "ERR TF.ONCE: not a write of one key, nor MSET"),
            },
            Action::Scan(scan) => self.start_scan(turn, requester, *scan),
            Action::Keys { pattern } => {
                self.start_everywhere(turn, requester, Kind::Keys, &Part::Keys(pattern));
            }
            Action::Size => self.start_everywhere(turn, requester, Kind::Sum, &Part::Size),
            Action::RandomKey => {
                self.start_everywhere(turn, requester, Kind::Random, &Part::Random);
            }
            Action::Flush => self.start_everywhere(turn, requester, Kind::AllOk, &Part::Flush),
            Action::Lost(lost) => self.start_lost(turn, requester, *lost),
            Action::Recover { prefix } => self.recover(turn, requester, prefix),
            Action::Outcome { token } => self.start_outcome(turn, requester, token),
            Action::Degraded { prefix } => self.start_degraded(turn, requester, *prefix),
            Action::Explain { prefix } => self.explain(turn, requester, prefix),
            Action::Switchover { prefix, node } => {
                self.start_switchover(turn, requester, prefix, *node);
            }
            Action::Wait { replicas, timeout_ms, local } => {
                let timeout_ms = match *timeout_ms {
                    0 => WAIT_MS_MAX,
                    ms => ms.min(WAIT_MS_MAX),
                };
                let connection = turn.local.connections.open(request.client);
                let wait = connection.wait(request, *replicas, timeout_ms, *local);
                turn.local.ready_waits.extend(wait);
            }
        }
    }

    /// A command on one key: mostly carried out here at once.
    pub(super) fn start_key(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        command: &KeyCommand<'_>,
        with: With,
        encode: &dyn Fn(&mut Vec<u8>),
    ) {
        let Some((route, slot)) = self.routes.with_slot(command.key) else {
            return turn.refuse(requester, NO_KEYSPACE);
        };
        let route = *route;
        let is_usual = with == With::default() && command.verb.needs() == Needs::Nothing;
        if !is_usual
            && let Some(keyspace) = self.cluster.keyspaces.get(route.keyspace)
            && let Some(refusal) = refusal_of_key(keyspace, command, with)
        {
            return turn.answer(requester, refusal, None);
        }
        if self.forwards.is_idle()
            && self.try_on_route(turn, requester, (route, slot), command, with)
        {
            return;
        }
        let work = Work::Key(*command, with);
        self.deliver(turn, requester, route.group, &work, encode);
    }

    fn start_once(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        key: &[u8],
        work: &Work<'_>,
        arguments: Arguments<'_>,
    ) {
        let Some((group, keyspace)) = self.group_of(key) else {
            return turn.refuse(requester, NO_KEYSPACE);
        };
        if let Some(refusal) = refusal(keyspace, work) {
            return turn.answer(requester, refusal, None);
        }
        self.deliver(turn, requester, group, work, &|out: &mut Vec<u8>| {
            encode_arguments(&arguments, out)
        });
    }

    fn start_each(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        verb: EachVerb,
        keys: Arguments<'_>,
        with: With,
    ) {
        let (kind, name, key_verb) = match verb {
            EachVerb::Get => (Kind::Each, &b"GET"[..], command::Verb::Get),
            EachVerb::Delete => return self.start_delete_many(turn, requester, keys, with),
            EachVerb::Exists => (Kind::Sum, &b"EXISTS"[..], command::Verb::Exists),
        };
        let gather = self.gathers.open(requester, kind, keys.len(), false);
        for (part, key) in keys.iter().enumerate() {
            let requester = Requester::Part { gather, part: part as u32 };
            let command = KeyCommand { key, verb: key_verb };
            let encode = |out: &mut Vec<u8>| encode_words(&with_words(with, &[name, key]), out);
            self.start_key(turn, requester, &command, with, &encode);
        }
    }

    fn start_set_many(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        (pairs, with): (Arguments<'_>, With),
        arguments: Arguments<'_>,
        once: Option<OnceId<'_>>,
    ) {
        let mut groups = pairs.iter().step_by(2).map(|key| self.group_of(key));
        let Some(Some((group, keyspace))) = groups.next() else {
            return turn.refuse(requester, NO_KEYSPACE);
        };
        let leaderless = matches!(keyspace.model, Model::Leaderless(_));
        for other in groups.flatten() {
            if other.0.keyspace != group.keyspace {
                return turn.refuse(
                    requester,
                    "CROSSMODEL MSET is one entry of one keyspace: these keys are in several; \
                     set them one by one",
                );
            }
            if other.0 != group && !leaderless {
                return turn.refuse(
                    requester,
                    "CROSSSLOT MSET is one entry of one partition: these keys are in several; \
                     give them one {tag}, or set them one by one",
                );
            }
        }
        if leaderless {
            return turn.refuse(
                requester,
                "CROSSSLOT a leaderless keyspace writes key by key: MSET takes one pair there",
            );
        }
        let work = match once {
            None => Work::SetMany(pairs, with),
            Some(id) => Work::Once(id, Box::new(Work::SetMany(pairs, with))),
        };
        if let Some(refusal) = refusal(keyspace, &work) {
            return turn.answer(requester, refusal, None);
        }
        let encode = |out: &mut Vec<u8>| encode_arguments(&arguments, out);
        self.deliver(turn, requester, group, &work, &encode);
    }

    /// Something that every group of the cluster has a share in.
    fn start_everywhere(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        kind: Kind,
        part: &Part<'_>,
    ) {
        let groups = self.all_groups();
        let gather = self.gathers.open(requester, kind, groups.len(), part.is_write());
        for (number, group) in groups.into_iter().enumerate() {
            let requester = Requester::Part { gather, part: number as u32 };
            let work = Work::Part(part.clone());
            self.deliver(turn, requester, group, &work, &|out| part.encode(out));
        }
    }

    /// The group that holds a key, as this node sees it: of a keyspace with a leader in each
    /// datacenter, the one of this node's own datacenter where there is one.
    pub(super) fn group_of(&self, key: &[u8]) -> Option<(GroupId, &Keyspace)> {
        let route = self.routes.of(key)?;
        Some((route.group, self.cluster.keyspaces.get(route.keyspace)?))
    }

    /// The group of a partition, as this node sees it.
    pub(super) fn group_in(&self, keyspace: &Keyspace, partition: u16) -> GroupId {
        let datacenter = match &keyspace.model {
            Model::LeaderFollower(options) => options.home,
            Model::MultiLeader(options) => match options.datacenters.contains(&self.datacenter) {
                true => self.datacenter,
                false => options.datacenters.first().copied().unwrap_or(self.datacenter),
            },
            Model::Leaderless(_) => GroupId::EVERYWHERE,
        };
        keyspace.group(partition, datacenter)
    }

    /// The way from a key to its group, for all keys.
    pub(super) fn routes_to_groups(&self) -> Routes {
        Routes::new(&self.cluster.keyspaces, |keyspace, partition| {
            let group = self.group_in(keyspace, partition);
            (group, self.groups.place_of(&group))
        })
    }

    /// One group for each partition of each keyspace.
    pub(super) fn all_groups(&self) -> Vec<GroupId> {
        let mut groups = Vec::new();
        for keyspace in &self.cluster.keyspaces {
            groups.extend((0..keyspace.partitions()).map(|p| self.group_in(keyspace, p)));
        }
        groups
    }
}

/// Why a keyspace's model cannot carry work out honestly, if so.
pub(super) fn refusal(keyspace: &Keyspace, work: &Work<'_>) -> Option<Reply<'static>> {
    let work = match work {
        Work::Once(..) if !matches!(keyspace.model, Model::LeaderFollower(_)) => {
            return Some(Reply::error(format!(
                "ERR TF.ONCE needs one log for all writes of a key, a leader-follower keyspace; \
                 \"{}\" is none",
                keyspace.prefix.escape_ascii()
            )));
        }
        Work::Once(_, work) => &**work,
        work => work,
    };
    match work {
        Work::Key(command, with) => refusal_of_key(keyspace, command, *with),
        Work::DeleteMany(_, with) => {
            let command = KeyCommand { key: &[], verb: command::Verb::Delete };
            refusal_of_key(keyspace, &command, *with)
        }
        _ => None,
    }
}

/// The same for a command on one key.
fn refusal_of_key(
    keyspace: &Keyspace,
    command: &KeyCommand<'_>,
    with: With,
) -> Option<Reply<'static>> {
    let quorum = with.w.is_some() || with.r.is_some();
    let needs = command.verb.needs();
    let (allowed, model) = match &keyspace.model {
        Model::LeaderFollower(_) => (Needs::Coordination, "leader-follower"),
        Model::MultiLeader(_) => (Needs::Register, "multi-leader"),
        Model::Leaderless(_) => (Needs::Nothing, "leaderless"),
    };
    if (with.acks.is_some() || with.level.is_some()) && model == "leaderless" {
        let prefix = keyspace.prefix.escape_ascii();
        return Some(Reply::error(format!(
            "ERR ACKS and LEVEL are options of keyspaces with a leader; \"{prefix}\" is {model}: W \
             and R are its options"
        )));
    }
    if quorum && model != "leaderless" {
        let text = format!(
            "ERR W and R are options of leaderless keyspaces; \"{}\" is {model}",
            keyspace.prefix.escape_ascii()
        );
        return Some(Reply::error(text));
    }
    if matches!(keyspace.model, Model::MultiLeader(_))
        && let Some(text) = multi_leader::leader::coordination_error(&command.verb)
    {
        return Some(Reply::error(text));
    }
    let text = match needs {
        needs if needs <= allowed => return None,
        Needs::Coordination => {
            "NEEDCOORD this form claims or compares, which needs one leader for the key"
        }
        _ => "NEEDCOORD this command writes what it has read, which needs a leader for the key",
    };
    let prefix = keyspace.prefix.escape_ascii();
    Some(Reply::error(format!("{text}; keyspace \"{prefix}\" is {model}")))
}

/// A command's words with its `TF.WITH` in front, if it has one.
pub(super) fn with_words<'a>(with: With, words: &[&'a [u8]]) -> Vec<alloc::borrow::Cow<'a, [u8]>> {
    let mut all: Vec<alloc::borrow::Cow<'a, [u8]>> = Vec::new();
    if with != With::default() {
        all.push(b"TF.WITH"[..].into());
        let options = [
            (&b"W"[..], with.w.map(|w| format!("{w}"))),
            (&b"R"[..], with.r.map(|r| format!("{r}"))),
            (&b"ACKS"[..], with.acks.map(|acks| format!("{acks}"))),
            (&b"LEVEL"[..], with.level.map(|level| format!("{level}"))),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                all.push(name.into());
                all.push(value.into_bytes().into());
            }
        }
        all.push(b"--"[..].into());
    }
    all.extend(words.iter().map(|word| alloc::borrow::Cow::Borrowed(*word)));
    all
}

pub(super) fn encode_words(words: &[alloc::borrow::Cow<'_, [u8]>], out: &mut Vec<u8>) {
    for word in words {
        crate::wire::Writer(out).bytes(word);
    }
}

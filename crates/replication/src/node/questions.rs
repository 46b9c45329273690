//! Questions about writes and keyspaces that any node takes: what has become of a write
//! (TF.OUTCOME), where acks were lowered (TF.DEGRADED), what a keyspace guarantees (TF.EXPLAIN).

use super::Roles;
use super::gather::Kind;
use super::part::Part;
use super::requests::Work;
use crate::asked_token::AnyToken;
use crate::command::error::{ECHO_BYTES_MAX, echo};
use crate::keyspace::{Keyspace, Model, guarantees};
use crate::turn::{Requester, Turn};
use crate::{GroupId, Reply};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Roles {
    /// TF.OUTCOME: asks the leader of the write's group.
    pub(super) fn start_outcome(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        token: &[u8],
    ) {
        let token = match AnyToken::parse(token, turn.local.cluster) {
            Ok(token) => token,
            Err(wrong) => return turn.refuse(requester, wrong.text()),
        };
        if !self.placement.contains_key(&token.group()) || self.is_leaderless(token.group()) {
            let text = "ERR this token is of a keyspace, generation or partition that this \
                        cluster does not have";
            return turn.refuse(requester, text);
        }
        let part = match token {
            AnyToken::Entry(token) => Part::Outcome(token.id),
            AnyToken::Asked(asked) => Part::OutcomeAsked(asked),
        };
        self.deliver(turn, requester, token.group(), &Work::Part(part.clone()), &|out| {
            part.encode(out)
        });
    }

    /// TF.DEGRADED LIST: asks the leaders of all groups, or of one keyspace's.
    pub(super) fn start_degraded(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        prefix: Option<&[u8]>,
    ) {
        let wanted = match prefix.map(|prefix| self.keyspace_named(prefix)).transpose() {
            Ok(wanted) => wanted.map(|keyspace| keyspace.id),
            Err(error) => return turn.answer(requester, error, None),
        };
        let groups: Vec<GroupId> = self
            .placement
            .keys()
            .filter(|group| wanted.is_none_or(|wanted| wanted == group.keyspace))
            .filter(|group| !self.is_leaderless(**group))
            .copied()
            .collect();
        if groups.is_empty() {
            return turn.answer(requester, Reply::Array(Vec::new()), None);
        }
        let gather = self.gathers.open(requester, Kind::Keys, groups.len(), false);
        for (number, group) in groups.into_iter().enumerate() {
            let requester = Requester::Part { gather, part: number as u32 };
            let work = Work::Part(Part::Degraded);
            self.deliver(turn, requester, group, &work, &|out| Part::Degraded.encode(out));
        }
    }

    /// TF.EXPLAIN: what follows from a keyspace's options, as `trefoil explain` prints it.
    pub(super) fn explain(&mut self, turn: &mut Turn<'_>, requester: Requester, prefix: &[u8]) {
        let reply = match self.keyspace_named(prefix) {
            Ok(keyspace) => {
                let lines = guarantees::explain(&self.cluster, keyspace).into_iter();
                let line = |line: String| Reply::Bulk(Cow::Owned(line.into_bytes()));
                Reply::Array(lines.map(line).collect())
            }
            Err(error) => error,
        };
        turn.answer(requester, reply, None);
    }

    pub(super) fn keyspace_named(&self, prefix: &[u8]) -> Result<&Keyspace, Reply<'static>> {
        let keyspaces = &self.cluster.keyspaces;
        keyspaces.iter().find(|keyspace| keyspace.prefix == prefix).ok_or_else(|| {
            let shown = |keyspace: &Keyspace| format!("\"{}\"", keyspace.prefix.escape_ascii());
            let all: Vec<String> = keyspaces.iter().map(shown).collect();
            let prefix = echo(prefix, ECHO_BYTES_MAX).to_string();
            Reply::error(format!(
                "ERR no keyspace has the prefix \"{prefix}\"; there are: {}",
                all.join(", ")
            ))
        })
    }

    /// Whether a keyspace is leaderless.
    pub(super) fn is_leaderless(&self, id: GroupId) -> bool {
        let keyspace = self.cluster.keyspace(id.keyspace);
        keyspace.is_some_and(|keyspace| matches!(keyspace.model, Model::Leaderless(_)))
    }
}

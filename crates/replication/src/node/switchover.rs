//! `TF.SWITCHOVER prefix [node]`: every partition of a keyspace changes its leader by order.
//!
//! The command goes to each group's leader like any other; of a keyspace with a leader in each
//! datacenter, to those of the asked node's datacenter. The leader answers when it has heard its
//! successor serve.

use super::Roles;
use super::gather::Kind;
use super::part::Part;
use super::requests::Work;
use crate::keyspace::{Keyspace, Model};
use crate::leader_follower::transfer::{By, Order};
use crate::turn::{Requester, Turn};
use crate::{GroupId, NodeId, Reply};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Roles {
    /// A client's order: takes it apart, a share for each partition's leader.
    pub(super) fn start_switchover(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        prefix: &[u8],
        node: Option<&[u8]>,
    ) {
        let found = self.cluster.keyspaces.iter().find(|keyspace| keyspace.prefix == prefix);
        let Some(keyspace) = found else {
            let prefix = prefix.escape_ascii();
            return turn.refuse(requester, format!("ERR no keyspace has the prefix \"{prefix}\""));
        };
        if matches!(keyspace.model, Model::Leaderless(_)) {
            let text = "ERR a leaderless keyspace has no leader to change";
            return turn.refuse(requester, text);
        }
        let to = match node.map(|name| self.named(name)) {
            Some(Err(text)) => return turn.refuse(requester, text),
            Some(Ok(node)) => Some(node),
            None => None,
        };
        let groups = self.groups_in(keyspace);
        let gather = self.gathers.open(requester, Kind::Switchover, groups.len(), true);
        for (number, group) in groups.into_iter().enumerate() {
            let part = Part::Switchover { to };
            let requester = Requester::Part { gather, part: number as u32 };
            self.deliver(turn, requester, group, &Work::Part(part.clone()), &|out| {
                part.encode(out)
            });
        }
    }

    fn groups_in(&self, keyspace: &Keyspace) -> Vec<GroupId> {
        (0..keyspace.partitions()).map(|partition| self.group_in(keyspace, partition)).collect()
    }

    fn named(&self, name: &[u8]) -> Result<NodeId, String> {
        let node = core::str::from_utf8(name).ok().and_then(|name| self.cluster.node(name));
        node.ok_or_else(|| format!("ERR no node is called \"{}\"", name.escape_ascii()))
    }

    /// This node leads the group: hands over, or says why not; then nothing has happened.
    pub(super) fn switch_over(
        &mut self,
        turn: &mut Turn<'_>,
        requester: Requester,
        id: GroupId,
        to: Option<NodeId>,
    ) {
        if to == Some(turn.local.me)
            && let Some(group) = self.groups.get(&id).filter(|group| !group.is_handing_over())
        {
            // What was asked for is so: an order that is given again is no failure.
            let numbers = [u64::from(turn.local.me.0), group.epoch(), 0];
            let numbers = numbers.map(|number| Reply::Integer(number as i64));
            return turn.answer(requester, Reply::Array(numbers.into()), None);
        }
        match self.successor(turn, id, to) {
            Err(text) => turn.refuse(requester, text),
            Ok(to) => {
                let why = Cow::Borrowed("ordered by TF.SWITCHOVER");
                let order = Order { to, why, by: By::Client(requester, self.name_of(to)) };
                if let Some(group) = self.groups.get_mut(&id) {
                    group.hand_over(turn, order);
                }
            }
        }
    }

    fn successor(
        &self,
        turn: &Turn<'_>,
        id: GroupId,
        to: Option<NodeId>,
    ) -> Result<NodeId, String> {
        let Some(group) = self.groups.get(&id) else { return Err(String::from("ERR not here")) };
        if group.is_handing_over() {
            return Err(String::from("ERR a switchover of this keyspace is under way"));
        }
        let Some(to) = to else {
            let none = "ERR no other voter of this keyspace is up";
            return self.successor_of(turn, group).ok_or(none.to_string());
        };
        let name = self.name_of(to);
        if !group.members.contains(&to) {
            return Err(format!("ERR {name} does not hold this keyspace"));
        }
        if !self.is_up(turn, to) {
            return Err(format!("ERR {name} is down"));
        }
        if !self.may_take_over(turn, to) {
            return Err(format!("ERR {name} is about to stop"));
        }
        match group.is_voting_follower(to) {
            Some(true) => Ok(to),
            Some(false) => Err(format!(
                "ERR {name} is a learner: it cannot lead before the voters have admitted its disk"
            )),
            None => Err(format!(
                "TRYAGAIN the leader has not heard yet which disk {name} has and how much of the \
                 log: it does within a few heartbeats"
            )),
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        self.cluster.member(node).map_or_else(|| node.to_string(), |member| member.name.clone())
    }

    /// What leaders have answered, for a client's eyes: [leader, epoch, pause in milliseconds].
    pub(super) fn told_by_name(&self, reply: Reply<'static>) -> Reply<'static> {
        let Reply::Array(mut parts) = reply else { return reply };
        for part in &mut parts {
            if let Reply::Array(fields) = part
                && let Some(first) = fields.first_mut()
                && let Reply::Integer(number) = first
            {
                let name = self.name_of(NodeId(u16::try_from(*number).unwrap_or(u16::MAX)));
                *first = Reply::Bulk(Cow::Owned(name.into_bytes()));
            }
        }
        Reply::Array(parts)
    }
}

//! `TF.RECOVER prefix`: an operator's word, for each group of a keyspace that this node is in.

use super::Roles;
use super::gather::Kind;
use crate::GroupId;
use crate::leader_follower::Group;
use crate::turn::{Requester, Turn};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

impl Roles {
    /// This node goes on with the groups of a keyspace that have no leader.
    pub(super) fn recover(&mut self, turn: &mut Turn<'_>, requester: Requester, prefix: &[u8]) {
        // The empty prefix as it is written, from a client that does not understand quotes.
        let prefix = if prefix == b"\"\"" { &[] } else { prefix };
        let keyspace = self.cluster.keyspaces.iter().find(|keyspace| keyspace.prefix == prefix);
        let shown = prefix.escape_ascii();
        let Some(keyspace) = keyspace.map(|keyspace| keyspace.id) else {
            return turn.refuse(requester, format!("ERR no keyspace has the prefix \"{shown}\""));
        };
        let here = self.groups.values().filter(|group| group.id.keyspace == keyspace);
        let here: Vec<(GroupId, bool)> =
            here.map(|group| (group.id, group.has_leader(turn))).collect();
        if here.is_empty() {
            let text = format!("ERR this node is in no group with leaders of \"{shown}\"");
            return turn.refuse(requester, text);
        }
        // Partitions that have a leader need nothing; if all have, each says so.
        let all_led = here.iter().all(|(_, led)| *led);
        let wanted: Vec<GroupId> =
            here.iter().filter(|(_, led)| all_led || !led).map(|(id, _)| *id).collect();
        let gather = self.gathers.open(requester, Kind::AllOk, wanted.len(), true);
        for (part, id) in wanted.into_iter().enumerate() {
            let requester = Requester::Part { gather, part: part as u32 };
            let names = self.placement.get(&id).into_iter().flatten().filter_map(|node| {
                let member = self.cluster.member(*node)?;
                Some((*node, member.name.clone()))
            });
            let names: BTreeMap<_, _> = names.collect();
            if let Some(group) = self.groups.get_mut(&id) {
                group.recover(turn, requester, names);
            }
        }
    }
}

impl Group {
    fn has_leader(&self, turn: &Turn<'_>) -> bool {
        self.leader().is_some() && self.hears_leader(turn)
    }
}

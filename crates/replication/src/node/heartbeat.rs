//! Heartbeats are per pair of nodes: they say who is alive, list every group that the sender
//! leads, and carry the rounds that confirm a leader for its reads.

use super::forward::batch;
use super::heartbeat_gaps::HeartbeatGaps;
use super::message::{Confirmed, Led as LedGroup, Message};
use super::{Node, Roles};
use crate::keyspace::Durability;
use crate::leader_follower::leap::is_leap;
use crate::turn::Turn;
use crate::version::EntryId;
use crate::{Event, Incarnation, Message as AnyMessage, NodeId, Session};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Who leads a group, as far as heartbeats have told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    /// Who.
    pub(super) node: NodeId,
    /// In which epoch.
    pub(super) epoch: u64,
    /// Up to where its log went when it said so.
    pub(super) last: u64,
    /// It has said since that it leads no longer.
    pub(super) is_over: bool,
}

/// What a node knows of another.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its process, from its newest heartbeat.
    pub(super) session: Option<Session>,
    /// When it was last heard, in microseconds of the monotonic clock.
    pub(super) heard_us: Option<u64>,
    /// Its connection broke, and it was not heard since.
    pub(super) lost: bool,
    /// Its process is to stop.
    pub(super) is_leaving: bool,
    /// Its keyspaces are others than this node's.
    foreign: bool,
    /// How long it was silent, in the last day.
    pub(super) gaps: HeartbeatGaps,
}

impl Roles {
    pub(super) fn send_heartbeats(&mut self, turn: &mut Turn<'_>) {
        turn.local.rounds.start(turn.now.monotonic_us);
        self.forwards.settle();
        self.beat(turn, |_, _| true);
    }

    /// A round for reads that wait: only members of groups that this node leads are asked.
    pub(super) fn start_round(&mut self, turn: &mut Turn<'_>) {
        turn.local.rounds.start(turn.now.monotonic_us);
        let me = turn.local.me;
        self.beat(turn, |roles, node| {
            roles
                .groups
                .values()
                .any(|group| group.leads() && node != me && group.members.contains(&node))
        });
    }

    fn beat(&self, turn: &mut Turn<'_>, to: impl Fn(&Roles, NodeId) -> bool) {
        if self.cluster.members.len() == 1 {
            return;
        }
        let led: Vec<LedGroup> = self
            .groups
            .values()
            .filter(|group| group.leads())
            .map(|group| LedGroup {
                group: group.id,
                epoch: group.epoch(),
                commit: group.commit_to_tell(),
                last: group.last().index,
            })
            .collect();
        for node in (0..self.cluster.members.len() as u16).map(NodeId) {
            if node != turn.local.me && to(self, node) {
                let message = Message::Heartbeat {
                    session: self.session,
                    round: turn.local.rounds.newest(),
                    keyspaces: self.keyspaces_digest,
                    settled: self.forwards.settled_at(node),
                    is_leaving: turn.local.is_leaving,
                    led: led.clone(),
                };
                turn.send(node, AnyMessage::Node(message));
            }
        }
    }

    pub(super) fn on_node_message(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        incarnation: Incarnation,
        message: Message<'_>,
    ) {
        match message {
            Message::Heartbeat { session, round, keyspaces, settled, is_leaving, led } => {
                self.forwards.seen.is_new(from, session, settled);
                self.note_gap(turn, from, session, &led);
                if let Some(peer) = self.peers.get_mut(usize::from(from.0)) {
                    peer.is_leaving = is_leaving;
                }
                if self.note_heartbeat(turn, from, session, keyspaces) {
                    self.on_heartbeat(turn, from, round, &led);
                }
            }
            Message::HeartbeatAnswer { round, confirmed, term } => {
                for Confirmed { group, epoch } in confirmed {
                    if let Some(group) = self.groups.get_mut(&group) {
                        let answer = (round, epoch, term);
                        group.on_heartbeat_answer(turn, from, incarnation, answer);
                    }
                }
            }
            Message::Forward { to, from: session, sequence, commands } => {
                if to == self.session {
                    self.on_forward(turn, from, session, sequence, &commands);
                }
            }
            Message::Answer { to, answers } => {
                if to == self.session {
                    for (token, reply, last_write) in batch::answers(&answers).flatten() {
                        self.on_answer(turn, token, reply, last_write);
                    }
                }
            }
            Message::AskLost { to, from: session, token, question } => {
                if to == self.session {
                    self.on_ask_lost(turn, from, session, token, &question);
                }
            }
            Message::TellLost { to, token, answer } => {
                if to == self.session {
                    self.on_tell_lost(turn, from, token, &answer);
                }
            }
            Message::NotHere { to, token, leader } => {
                if to == self.session {
                    self.on_not_here(turn, from, token, leader);
                }
            }
        }
    }

    /// Whether a node was last heard with other keyspaces: its groups are not this node's, whatever
    /// their names. Its heartbeats tell when that is over.
    pub(super) fn is_foreign(&self, node: NodeId) -> bool {
        self.peers.get(usize::from(node.0)).is_some_and(|peer| peer.foreign)
    }

    /// What an earlier process has promised for longer than this one does is over: the next process
    /// need not keep it.
    pub(super) fn outlive_promises(&mut self, turn: &mut Turn<'_>) {
        let lease_us = self.timing.lease_us;
        if turn.now.monotonic_us >= self.promised_until_us
            && let Some(identity) = &mut self.checkpoint.identity
            && identity.lease_us > lease_us
        {
            identity.lease_us = lease_us;
            turn.append(&identity.encode(), Durability::Fsync);
        }
    }

    /// Whether a leadership may go to this node.
    pub(super) fn may_take_over(&self, turn: &Turn<'_>, node: NodeId) -> bool {
        let is_leaving = self.peers.get(usize::from(node.0)).is_some_and(|peer| peer.is_leaving);
        self.is_up(turn, node) && !is_leaving
    }

    /// Notes how long a peer was silent. What every heartbeat is late by is no silence.
    fn note_gap(&mut self, turn: &Turn<'_>, from: NodeId, session: Session, led: &[LedGroup]) {
        let leads = led.iter().any(|led| self.groups.contains_key(&led.group));
        let ignored_us = self.timing.silence_us();
        if let Some(peer) = self.peers.get_mut(usize::from(from.0)) {
            peer.gaps.heard(turn.now, session, leads, ignored_us);
        }
    }

    /// Notes that a peer lives; whether it may be believed.
    fn note_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        session: Session,
        keyspaces: u64,
    ) -> bool {
        let same = keyspaces == self.keyspaces_digest;
        let Some(peer) = self.peers.get_mut(usize::from(from.0)) else { return false };
        peer.session = Some(session);
        peer.heard_us = Some(turn.now.monotonic_us);
        peer.lost = false;
        if !same && !peer.foreign {
            let name = self.cluster.member(from).map_or("?", |member| &member.name);
            let text = alloc::format!(
                "{name} has other keyspaces than this node: nothing is replicated with it until \
                 their configuration files agree"
            );
            turn.event(Event::Alarm(Cow::Owned(text)));
        }
        peer.foreign = !same;
        same
    }

    fn on_heartbeat(&mut self, turn: &mut Turn<'_>, from: NodeId, round: u64, led: &[LedGroup]) {
        let mut confirmed = Vec::new();
        // What it was known to lead and does not name: it has stepped down.
        for (id, known) in &mut self.leaders {
            known.is_over |= known.node == from && !led.iter().any(|led| led.group == *id);
        }
        for LedGroup { group, epoch, commit, last } in led.iter().copied() {
            self.hear_leader(turn, group, Led { node: from, epoch, last, is_over: false });
            if let Some(group) = self.groups.get_mut(&group)
                && let Some(epoch) = group.on_heartbeat(turn, from, epoch, commit)
            {
                group.hear_last(from, EntryId { epoch, index: last });
                confirmed.push(Confirmed { group: group.id, epoch });
            }
        }
        if !confirmed.is_empty() {
            let term = self.timing.lease_term();
            let answer = Message::HeartbeatAnswer { round, confirmed, term };
            turn.send(from, AnyMessage::Node(answer));
        }
    }

    /// Somebody says that it leads a group.
    fn hear_leader(&mut self, turn: &mut Turn<'_>, id: crate::GroupId, led: Led) {
        let before = self.leaders.get(&id).copied();
        let known = before.map_or(0, |before| before.epoch);
        if led.epoch < known || !self.placement.contains_key(&id) {
            return;
        }
        if is_leap(known, led.epoch) {
            let (group, from, epoch) = (id, led.node, led.epoch);
            return turn.event(Event::EpochRefused { group, from, epoch });
        }
        self.leaders.insert(id, led);
        if before.is_none_or(|before| (before.node, before.epoch) != (led.node, led.epoch)) {
            self.forwards.resume(id);
        }
    }

    /// Whether a node that does not lead a group tells of a newer leader than is known: what it
    /// names has to be a member, and of an epoch that can be.
    pub(super) fn tells_leader(
        &self,
        turn: &mut Turn<'_>,
        from: NodeId,
        id: crate::GroupId,
        (node, epoch): (NodeId, u64),
    ) -> bool {
        let known = self.leaders.get(&id).map_or(0, |led| led.epoch);
        if is_leap(known, epoch) {
            turn.event(Event::EpochRefused { group: id, from, epoch });
            return false;
        }
        epoch > known && self.placement.get(&id).is_some_and(|members| members.contains(&node))
    }

    /// What is known of a node as the leader of a group: its epoch (0 if none is known), and up to
    /// where its log goes at least.
    pub(super) fn led_by(&self, id: crate::GroupId, node: NodeId) -> Led {
        let nothing = Led { node, epoch: 0, last: 0, is_over: false };
        let heard = self.leaders.get(&id).copied().filter(|led| led.node == node);
        let heard = heard.unwrap_or(nothing);
        let own = self.groups.get(&id).filter(|group| group.leader() == Some(node));
        let own = own.map_or(nothing, |group| Led {
            node,
            epoch: group.epoch(),
            last: group.known_of_leader(),
            is_over: false,
        });
        if (own.epoch, own.last) > (heard.epoch, heard.last) { own } else { heard }
    }

    /// Whether another node was heard lately, or is this one.
    pub(super) fn is_up(&self, turn: &Turn<'_>, node: NodeId) -> bool {
        if node == turn.local.me {
            return true;
        }
        let silence_us = self.timing.election_timeout_us;
        self.peers.get(usize::from(node.0)).is_some_and(|peer| {
            let heard = peer.heard_us.is_some_and(|heard_us| {
                turn.now.monotonic_us.saturating_sub(heard_us) < silence_us
            });
            heard && !peer.lost && !peer.foreign
        })
    }

    /// Whether a node that was heard once has said nothing for twice as long as an election waits.
    pub(super) fn is_silent(&self, turn: &Turn<'_>, node: NodeId) -> bool {
        let silence_us = self.timing.election_timeout_us.saturating_mul(2);
        let heard_us = self.peers.get(usize::from(node.0)).and_then(|peer| peer.heard_us);
        heard_us
            .is_some_and(|heard_us| turn.now.monotonic_us.saturating_sub(heard_us) >= silence_us)
    }

    /// Who leads a group, if this node knows and the leader is up.
    pub(super) fn leader_of(&self, turn: &Turn<'_>, id: crate::GroupId) -> Option<NodeId> {
        if let Some(group) = self.groups.get(&id)
            && let Some(leader) = group.leader()
        {
            return Some(leader).filter(|node| self.is_up(turn, *node));
        }
        let leader = self.leaders.get(&id).filter(|led| !led.is_over)?.node;
        Some(leader).filter(|node| *node != turn.local.me && self.is_up(turn, *node))
    }
}

impl Node {
    /// How long ago another node was last heard, in microseconds; `None` if never.
    pub fn heard_us_ago(&self, now_us: u64, node: NodeId) -> Option<u64> {
        let heard_us = self.roles.peers.get(usize::from(node.0))?.heard_us?;
        Some(now_us.saturating_sub(heard_us))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Limits, Setup, Timing};
    use super::*;
    use crate::keyspace::{Cluster, GroupOptions, Keyspace, LeaderFollower, Member, Model};
    use crate::leader_follower::message::{Body, Message as GroupMessage};
    use crate::mutant::Mutants;
    use crate::{
        DatacenterId, Effects, GroupId, Input, KeyspaceId, Position, Reply, RequestId, Time,
    };
    use alloc::string::String;

    /// Counts what is said.
    #[derive(Default)]
    struct Sink {
        records: u64,
        sent: usize,
    }

    impl Effects for Sink {
        fn append_parts(&mut self, _: &[u8], _: &[u8], _: crate::keyspace::Durability) -> Position {
            self.records += 1;
            Position(self.records)
        }
        fn truncate(&mut self, _: Position) {}
        fn send(&mut self, _: NodeId, _: &AnyMessage<'_>) {
            self.sent += 1;
        }
        fn reply(&mut self, _: RequestId, _: &Reply<'_>) {}
        fn event(&mut self, _: &Event) {}
    }

    fn setup() -> Setup {
        let home = DatacenterId(0);
        let group = GroupOptions::defaults(3);
        let model = Model::LeaderFollower(LeaderFollower { home, partitions: 1, group });
        let member = |name: &str| Member { name: String::from(name), datacenter: home };
        let cluster = Cluster {
            name: String::from("test"),
            secret: 1,
            datacenters: alloc::vec![String::from("eu")],
            members: ["eu-1", "eu-2", "eu-3"].map(member).to_vec(),
            keyspaces: alloc::vec![Keyspace { id: KeyspaceId(1), prefix: Vec::new(), model }],
        };
        Setup {
            cluster,
            me: NodeId(0),
            new_incarnation: Incarnation(1),
            seed: 1,
            timing: Timing::default(),
            limits: Limits::default(),
            mutants: Mutants::default(),
            may_have_lost_unsynced: false,
            damaged: false,
        }
    }

    #[test]
    fn a_node_with_other_keyspaces_is_in_no_group_of_this_one() {
        let (from, incarnation) = (NodeId(1), Incarnation(2));
        let (setup, mut sink) = (setup(), Sink::default());
        let ours = setup.cluster.digest();
        let now = Time { monotonic_us: 1, wall_ms: 1 };
        let mut node = Node::open(setup, core::iter::empty(), now, &mut sink).unwrap();
        let kept = Position(sink.records);
        node.step(now, Input::Durable { written: kept, synced: kept }, &mut sink);
        let group: GroupId = *node.placement().keys().next().unwrap();
        for (keyspaces, answers) in [(ours ^ 1, 0), (ours, 1)] {
            let session = Session { incarnation, boot: 1 };
            let led = Vec::new();
            let (round, settled) = (1, 0);
            let is_leaving = false;
            let heartbeat =
                Message::Heartbeat { session, round, keyspaces, settled, is_leaving, led };
            let message = AnyMessage::Node(heartbeat);
            node.step(now, Input::Message { from, incarnation, message }, &mut sink);
            sink.sent = 0;
            let asks = GroupMessage { group, epoch: 0, body: Body::AskVoters };
            let message = AnyMessage::LeaderFollower(asks);
            node.step(now, Input::Message { from, incarnation, message }, &mut sink);
            assert_eq!(sink.sent, answers);
        }
    }

    /// A node of the cluster that has started, and its only group.
    fn started(sink: &mut Sink) -> (Node, GroupId, u64) {
        let setup = setup();
        let digest = setup.cluster.digest();
        let now = Time { monotonic_us: 1, wall_ms: 1 };
        let mut node = Node::open(setup, core::iter::empty(), now, sink).unwrap();
        let kept = Position(sink.records);
        node.step(now, Input::Durable { written: kept, synced: kept }, sink);
        let group = *node.placement().keys().next().unwrap();
        (node, group, digest)
    }

    fn says(node: &mut Node, sink: &mut Sink, message: Message<'_>) {
        let now = Time { monotonic_us: 2, wall_ms: 1 };
        let message = AnyMessage::Node(message);
        let (from, incarnation) = (NodeId(1), Incarnation(2));
        node.step(now, Input::Message { from, incarnation, message }, sink);
    }

    fn heartbeat(keyspaces: u64, group: GroupId, epochs: &[u64]) -> Message<'static> {
        let session = Session { incarnation: Incarnation(2), boot: 1 };
        let led = epochs.iter().map(|epoch| LedGroup { group, epoch: *epoch, commit: 0, last: 0 });
        let (is_leaving, led) = (false, led.collect());
        Message::Heartbeat { session, round: 1, keyspaces, settled: 0, is_leaving, led }
    }

    #[test]
    fn an_epoch_that_cannot_be_makes_nobody_a_leader() {
        let mut sink = Sink::default();
        let (mut node, group, digest) = started(&mut sink);
        says(&mut node, &mut sink, heartbeat(digest, group, &[u64::MAX]));
        assert_eq!(node.roles.leaders.get(&group), None);
        says(&mut node, &mut sink, heartbeat(digest, group, &[3]));
        let led = |node: &Node| node.roles.leaders.get(&group).map(|led| (led.epoch, led.is_over));
        assert_eq!(led(&node), Some((3, false)));
        let mut turn = Turn {
            now: Time { monotonic_us: 2, wall_ms: 1 },
            effects: &mut sink,
            local: &mut node.local,
        };
        for (leader, believed) in [
            ((NodeId(2), u64::MAX), false),
            ((NodeId(9), 4), false),
            ((NodeId(2), 3), false),
            ((NodeId(2), 4), true),
        ] {
            let tells = node.roles.tells_leader(&mut turn, NodeId(1), group, leader);
            assert_eq!(tells, believed, "{leader:?}");
        }
    }

    #[test]
    fn who_names_a_group_no_longer_does_not_lead_it() {
        let mut sink = Sink::default();
        let (mut node, group, digest) = started(&mut sink);
        let over = |node: &Node| node.roles.leaders.get(&group).map(|led| led.is_over);
        for (epochs, expected) in [(&[1][..], false), (&[], true), (&[2], false)] {
            says(&mut node, &mut sink, heartbeat(digest, group, epochs));
            assert_eq!(over(&node), Some(expected), "{epochs:?}");
        }
    }
}

//! One member of a group whose peers' messages are written by hand: what is late, repeated or of
//! another time at the very moment where it would do harm.
#![allow(clippy::unwrap_used, clippy::panic)]

mod parting;
mod reading;
mod staging;
mod window;

use super::image::{Begin, Image, SnapshotPiece};
use super::message::{Body, Matched, Message};
use super::transfer::{By, Order};
use super::*;
use crate::keyspace::Acks;
use crate::mutant::Mutants;
use crate::turn::Local;
use crate::{Effects, KeyspaceId, Reply, RequestId, Time};
use alloc::vec;

const GROUP: GroupId = GroupId {
    keyspace: KeyspaceId(1),
    generation: 0,
    partition: 0,
    datacenter: GroupId::EVERYWHERE,
};
const ME: NodeId = NodeId(0);
const PEER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const DISK: Incarnation = Incarnation(1);
const LAST_SLOT: u16 = 16_383;

/// What a node has asked of its driver.
#[derive(Default)]
struct Sink {
    records: Vec<Vec<u8>>,
    sent: Vec<(NodeId, Vec<u8>)>,
}

impl Effects for Sink {
    fn append_parts(&mut self, head: &[u8], rest: &[u8], _: Durability) -> Position {
        self.records.push([head, rest].concat());
        Position(self.records.len() as u64)
    }
    fn truncate(&mut self, _: Position) {}
    fn send(&mut self, to: NodeId, message: &crate::Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.sent.push((to, bytes));
    }
    fn reply(&mut self, _: RequestId, _: &Reply<'_>) {}
    fn event(&mut self, _: &Event) {}
}

struct Member {
    group: Group,
    local: Local,
    sink: Sink,
    now_us: u64,
}

impl Member {
    /// A voter among three.
    fn new() -> Member {
        let options = GroupOptions { acks: Acks::Majority, ..GroupOptions::defaults(3) };
        let mut group = Group::new(GroupSetup {
            id: GROUP,
            members: vec![ME, PEER, OTHER],
            options,
            slots: (0, LAST_SLOT),
            seed: 1,
            merges: false,
            timing: Timing::default(),
            limits: Limits::default(),
        });
        group.voters.restore(&voters(), true, EntryId::default());
        let local = Local::new(ME, DISK, 1, Mutants::default());
        Member { group, local, sink: Sink::default(), now_us: 100_000_000 }
    }

    /// One input, after which its disk has everything; what it has said.
    fn step(&mut self, act: impl FnOnce(&mut Group, &mut Turn<'_>)) -> Vec<(NodeId, Body<'_>)> {
        self.sink.sent.clear();
        let now = Time { monotonic_us: self.now_us, wall_ms: self.now_us / 1_000 };
        let mut turn = Turn { now, effects: &mut self.sink, local: &mut self.local };
        act(&mut self.group, &mut turn);
        self.group.record_turn(&mut turn);
        let kept = turn.local.last_position;
        turn.local.kept(kept, kept);
        turn.send_owed();
        self.group.on_durable(&mut turn);
        self.group.on_turn_end(&mut turn);
        let said = self.sink.sent.iter().map(|(to, bytes)| {
            let crate::Message::LeaderFollower(message) = crate::Message::decode(bytes).unwrap()
            else {
                panic!("a group says what a group says")
            };
            (*to, message.body)
        });
        said.collect()
    }

    fn hear(&mut self, from: NodeId, epoch: u64, body: Body<'_>) -> Vec<(NodeId, Body<'_>)> {
        let message = Message { group: GROUP, epoch, body };
        self.step(|group, turn| group.on_message(turn, from, DISK, message))
    }

    /// Elected in the next epoch, under an operator's word or not; returns that epoch.
    fn lead(&mut self, by_word: bool) -> u64 {
        let epoch = self.group.epoch + 1;
        self.step(|group, turn| {
            group.adopt_epoch(turn, epoch, "a test");
            let position = Position(0);
            if by_word {
                group.role =
                    Role::Candidate(Candidate::by_word(voters().into_iter().collect(), position));
                group.on_message(turn, PEER, DISK, vote(epoch));
            } else {
                group.start_election(turn, None);
                group.on_message(turn, PEER, DISK, vote(epoch + 1));
            }
            group.count_votes(turn);
        });
        assert!(self.group.leads());
        self.group.epoch
    }

    /// A follower has all of the leader's log.
    fn matched_by(&mut self, from: NodeId) {
        let last = self.group.last().index;
        let matched = Matched { received: last, durable: last, applied: 0, synced: last };
        self.hear(from, self.group.epoch, Body::Matched(matched));
    }
}

fn voters() -> message::VoterSet {
    vec![(ME, DISK), (PEER, DISK), (OTHER, DISK)]
}

fn vote(epoch: u64) -> Message<'static> {
    vote_for(DISK, epoch)
}

fn vote_for(to: Incarnation, epoch: u64) -> Message<'static> {
    Message { group: GROUP, epoch, body: Body::VoteAnswer { to, granted: true, suspect: false } }
}

fn piece(floor: EntryId, slots: (u16, u16), begin: Option<u64>) -> SnapshotPiece<'static> {
    let (records, once) = (Cow::Borrowed(&[][..]), Cow::Borrowed(&[][..]));
    let (first_slot, last_slot) = slots;
    let begin = begin.map(|history| Begin {
        voters: voters(),
        voters_as_of: EntryId::default(),
        covered: VersionVector::default(),
        degraded: degrade_ledger::Ledger::default(),
        history,
        newest: Stamp::ZERO,
    });
    SnapshotPiece {
        floor,
        image: Image { first_slot, last_slot, applied: floor.index, records, once, horizon_ms: 0 },
        done: last_slot == LAST_SLOT,
        begin,
        epochs: epochs::Epochs::default(),
    }
}

#[test]
fn an_epoch_that_cannot_be_is_not_believed_whoever_says_it() {
    let mut member = Member::new();
    let epoch = member.lead(false);
    for absurd in [u64::MAX, u64::MAX - 1, 1 << 62] {
        let answer = Body::PreVoteAnswer { granted: false, current: absurd, suspect: false };
        assert!(member.hear(PEER, epoch, answer).is_empty());
        assert!(member.hear(PEER, absurd, Body::EpochOver).is_empty());
        let vote = Body::Vote { last: EntryId::default(), handed_over: None };
        assert!(member.hear(PEER, absurd, vote).is_empty());
        member.step(|group, turn| {
            assert_eq!(group.on_heartbeat(turn, PEER, absurd, 0), None);
            let term = crate::node::LeaseTerm::default();
            group.on_heartbeat_answer(turn, PEER, DISK, (1, absurd, term));
        });
        assert!(member.group.leads() && member.group.epoch() == epoch, "{absurd}");
    }
    member.hear(PEER, epoch + 1_000_000, Body::EpochOver);
    assert_eq!(member.group.epoch(), epoch + 1_000_000, "a long absence is no absurdity");
}

#[test]
fn a_snapshot_of_another_history_does_not_go_on_although_it_has_the_same_floor() {
    let mut leader = Member::new();
    leader.lead(false);
    leader.matched_by(PEER);
    let floor = leader.group.last();
    assert_eq!(leader.group.commit(), floor.index);
    // It goes on under a possible loss, and nothing of its own is committed yet.
    let epoch = leader.lead(true);
    leader.step(|group, turn| {
        group.progress_of(turn, OTHER, DISK);
        group.start_snapshot(turn, OTHER);
    });
    // What the follower has of the leader before may hold entries that are lost.
    let wanted = Body::SnapshotWanted { floor, history: 0, next_slot: 8_000 };
    let said = leader.hear(OTHER, epoch, wanted);
    let slots: Vec<u16> = said
        .iter()
        .filter_map(|(to, body)| match body {
            Body::Snapshot(piece) if *to == OTHER => Some(piece.image.first_slot),
            _ => None,
        })
        .collect();
    assert_eq!(slots, [0]);

    let mut follower = Member::new();
    follower.hear(PEER, 5, Body::Snapshot(piece(floor, (0, 7_999), Some(0))));
    let said = follower.hear(PEER, 6, Body::Snapshot(piece(floor, (0, 99), Some(6))));
    assert!(
        said.contains(&(PEER, Body::SnapshotWanted { floor, history: 6, next_slot: 100 })),
        "it begins anew: {said:?}"
    );
}

#[test]
fn a_handover_ends_with_the_leadership_that_began_it() {
    let mut leader = Member::new();
    leader.lead(false);
    leader.matched_by(PEER);
    leader.step(|group, turn| {
        let why = Cow::Borrowed("a test");
        group.hand_over(turn, Order { to: OTHER, why, by: By::StalledDisk });
    });
    // Deposed and elected again before the handover has come to its end: this leadership has a
    // lease of its own, and nobody may be sent to be elected past it.
    leader.lead(false);
    leader.matched_by(PEER);
    let epoch = leader.group.epoch;
    let last = leader.group.last().index;
    let matched = Matched { received: last, durable: last, applied: 0, synced: last };
    let said = leader.hear(OTHER, epoch, Body::Matched(matched));
    assert!(!said.contains(&(OTHER, Body::TakeOver)), "{said:?}");
    assert!(leader.group.takes_in());
}

#[test]
fn a_promise_binds_against_an_operators_word_that_comes_late() {
    let mut member = Member::new();
    // It can confirm the second heartbeat: then its epoch is on disk.
    for _ in 0..2 {
        member.step(|group, turn| {
            let _ = group.on_heartbeat(turn, PEER, 3, 0);
        });
    }
    // It hears of the new epoch before it hears the word.
    member.hear(OTHER, 4, Body::EpochOver);
    let last = EntryId::default();
    let said = member.hear(OTHER, 4, Body::Recover { last, voters: voters() });
    let granted =
        said.iter().any(|(_, body)| matches!(body, Body::VoteAnswer { granted: true, .. }));
    assert!(!granted, "{said:?}");
}

#[test]
fn a_vote_for_another_disk_of_this_node_is_none_for_this_one() {
    let mut me = Member::new();
    let epoch = me.group.epoch + 1;
    let another = Incarnation(DISK.0 + 1);
    me.step(|group, turn| {
        group.adopt_epoch(turn, epoch, "a test");
        group.start_election(turn, None);
        group.on_message(turn, PEER, DISK, vote_for(another, epoch + 1));
        group.on_message(turn, OTHER, DISK, vote_for(another, epoch + 1));
    });
    assert!(!me.group.leads());
    me.step(|group, turn| group.on_message(turn, PEER, DISK, vote(epoch + 1)));
    assert!(me.group.leads());
}

#[test]
fn what_was_visible_stays_so_when_a_follower_loses_its_disk() {
    let mut member = Member::new();
    member.group.quorum.commit = 3;
    let epoch = member.lead(false);
    member.matched_by(PEER);
    member.matched_by(OTHER);
    assert!(member.group.is_serving());
    member.step(|group, turn| _ = group.append(turn, None, entry::Payload::Clear));
    member.matched_by(PEER);
    let visible = |member: &Member| match &member.group.role {
        Role::Leader(leader) => leader.visible,
        _ => 0,
    };
    let last = member.group.last().index;
    assert_eq!((visible(&member), member.group.commit), (last, last - 1));
    let body = Body::Matched(Matched { received: 1, durable: 1, applied: 0, synced: 1 });
    let message = Message { group: GROUP, epoch, body };
    member.step(|group, turn| group.on_message(turn, PEER, Incarnation(9), message));
    assert_eq!(visible(&member), last, "somebody may have read it");
}

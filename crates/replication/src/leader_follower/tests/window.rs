//! Many groups on the way to one node: a follower of all of them comes back.

use super::*;
use crate::leader_follower::entry::Payload;
use crate::windows::Windows;
use alloc::collections::VecDeque;

const GROUPS: u16 = 20;
const WINDOW_BYTES: usize = 4_000;
const APPEND_BYTES: usize = 300;
/// Entries that each group wrote while the follower was away: together many windows.
const MISSED: u64 = 60;

/// An append on its way to the follower: the group's place, its last index, its bytes.
type OnWay = (usize, u64, usize);

/// The leaders of many groups in one node, and what is on its way to the follower.
struct Leaders {
    members: Vec<Member>,
    windows: Windows,
    on_way: VecDeque<OnWay>,
    probes: Vec<(usize, u64)>,
    most: usize,
}

impl Leaders {
    fn new() -> Leaders {
        let member = |partition| {
            let mut member = Member::new();
            member.group.id = GroupId { partition, ..GROUP };
            member.group.limits.window_bytes_max = WINDOW_BYTES;
            member.group.limits.append_bytes_max = APPEND_BYTES;
            member
        };
        let members = (0..GROUPS).map(member).collect();
        let (windows, on_way, probes) = (Windows::default(), VecDeque::new(), Vec::new());
        let mut leaders = Leaders { members, windows, on_way, probes, most: 0 };
        for place in 0..leaders.members.len() {
            leaders.members[place].lead(false);
            leaders.members[place].matched_by(PEER);
            leaders.members[place].matched_by(OTHER);
        }
        leaders
    }

    /// An input to one group, and the end of the turn for all that wait for room.
    fn step(&mut self, place: usize, act: impl FnOnce(&mut Group, &mut Turn<'_>)) {
        self.step_one(place, act);
        self.send_in_turns();
    }

    fn send_in_turns(&mut self) {
        while let Some((node, id)) = self.windows.next(WINDOW_BYTES) {
            assert_eq!(node, PEER, "the other one has everything");
            self.step_one(id.partition.into(), |group, turn| group.send_in_turn(turn, node));
        }
    }

    fn step_one(&mut self, place: usize, act: impl FnOnce(&mut Group, &mut Turn<'_>)) {
        let member = &mut self.members[place];
        core::mem::swap(&mut member.local.windows, &mut self.windows);
        for (to, body) in member.step(act) {
            let Body::Append { previous, entries, .. } = body else { continue };
            let last = previous.index + Bodies::of(&entries).count() as u64;
            match (to, entries.len()) {
                (OTHER, _) => {}
                (_, 0) => self.probes.push((place, last)),
                (_, bytes) => self.on_way.push_back((place, last, bytes)),
            }
        }
        core::mem::swap(&mut member.local.windows, &mut self.windows);
        self.most = self.most.max(self.on_way.iter().map(|(_, _, bytes)| bytes).sum());
    }

    fn write(&mut self, place: usize) {
        self.step(place, |group, turn| _ = group.append(turn, None, Payload::Clear));
        let last = self.members[place].group.last().index;
        self.matched(place, OTHER, last);
    }

    fn matched(&mut self, place: usize, from: NodeId, index: u64) {
        let matched = Matched { received: index, durable: index, applied: 0, synced: index };
        let epoch = self.members[place].group.epoch;
        let message = Message { group: GROUP, epoch, body: Body::Matched(matched) };
        self.step(place, |group, turn| group.on_message(turn, from, DISK, message));
    }

    fn lose_follower(&mut self) {
        self.on_way.clear();
        self.probes.clear();
        for place in 0..self.members.len() {
            self.step_one(place, |group, _| group.on_peer_lost(PEER));
        }
        self.send_in_turns();
    }

    /// The follower takes what is in front of it, and says so.
    fn deliver(&mut self) -> Option<(usize, u64)> {
        let (place, last, _) = self.on_way.pop_front()?;
        self.matched(place, PEER, last);
        Some((place, last))
    }

    fn last(&self, place: usize) -> u64 {
        self.members[place].group.last().index
    }
}

#[test]
fn a_follower_of_many_groups_that_comes_back_gets_one_window() {
    let mut leaders = Leaders::new();
    leaders.lose_follower();
    let small = leaders.members.len() - 1;
    let start = leaders.last(0);
    for _ in 0..MISSED {
        (0..small).for_each(|place| leaders.write(place));
    }
    leaders.write(small);
    assert!(leaders.on_way.is_empty(), "nobody knows where the follower is");
    // It is there again, and answers each group's question.
    leaders.lose_follower();
    assert_eq!(leaders.probes.len(), leaders.members.len());
    for (place, index) in core::mem::take(&mut leaders.probes) {
        assert_eq!(index, start);
        leaders.matched(place, PEER, index);
    }
    let (mut delivered, mut small_after, mut has) = (0, None, vec![start; leaders.members.len()]);
    while let Some((place, last)) = leaders.deliver() {
        delivered += 1;
        has[place] = has[place].max(last);
        if place == small {
            small_after.get_or_insert(delivered);
        }
    }
    let all: Vec<u64> = (0..leaders.members.len()).map(|place| leaders.last(place)).collect();
    assert_eq!(has, all, "everybody has got everything");
    assert!(
        leaders.most <= WINDOW_BYTES + APPEND_BYTES,
        "{} bytes were on their way",
        leaders.most
    );
    assert!(leaders.most >= WINDOW_BYTES, "the window was used: {}", leaders.most);
    let first_window = WINDOW_BYTES / APPEND_BYTES + 1;
    let turn = first_window + usize::from(GROUPS) + WINDOW_BYTES / 50;
    assert!(small_after.is_some_and(|after| after <= turn), "{small_after:?} of {delivered}");
    assert_eq!(leaders.windows.bytes(PEER), 0);
}

#[test]
fn a_dead_follower_holds_one_window_and_is_sent_nothing_twice() {
    let mut leaders = Leaders::new();
    for _ in 0..MISSED {
        (0..leaders.members.len()).for_each(|place| leaders.write(place));
    }
    let held = leaders.windows.bytes(PEER);
    assert!((WINDOW_BYTES..WINDOW_BYTES + APPEND_BYTES).contains(&held), "{held}");
    let sent = leaders.on_way.len();
    for _ in 0..20 {
        for place in 0..leaders.members.len() {
            leaders.members[place].now_us += 100_000;
            leaders.step(place, |group, _| {
                if let Role::Leader(leader) = &mut group.role {
                    leader.progress.values_mut().for_each(progress::Progress::on_tick);
                }
            });
        }
    }
    assert_eq!(leaders.on_way.len(), sent, "no later heartbeat was answered");
    assert_eq!(leaders.windows.bytes(PEER), held);
    leaders.lose_follower();
    assert_eq!(leaders.windows.bytes(PEER), 0);
    assert!(leaders.on_way.is_empty());
}

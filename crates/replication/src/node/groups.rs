//! The groups with a leader that a node is a member of. They are known from the start and stay
//! where they are, so that a command finds its own by its place.
//!
//! A node may have thousands of groups, and a turn means something to a few of them. So whatever
//! hands out a group to be changed takes note of it as *touched*: what is to be done at the turn's
//! end is done for those. A group that nobody has touched has nothing to say at the end of a turn,
//! nothing to write down and no other deadline than before; only the disk's word can mean something
//! to it, and a group that waits for that is in a list of its own. So the cost of a turn follows
//! what happened in it and not what there is; only a heartbeat interval's tick walks all groups.

use crate::GroupId;
use crate::leader_follower::Group;
use crate::turn::Turn;
use alloc::vec;
use alloc::vec::Vec;

/// The groups, in the order of their names.
#[derive(Default)]
pub struct Groups {
    all: Vec<Group>,
    /// When each wanted a tick when it was last looked at, in microseconds of the monotonic clock.
    deadlines_us: Vec<u64>,
    /// No later than the earliest of these.
    earliest_us: u64,
    /// Those that were handed out since they were last asked what a turn's end means to them.
    touched: Places,
    /// Those whose end of this turn has come.
    ending: Places,
    /// Those with a record that is not written yet.
    unwritten: Places,
    /// Those with a record that is not on disk yet.
    unsynced: Places,
    /// Those that were handed out since what their reads hold was counted.
    uncounted: Places,
    /// Bytes that reads hold of each, when it was counted last.
    held_read_bytes: Vec<u64>,
    /// The sum of these.
    all_held_read_bytes: u64,
}

/// Some of the groups.
#[derive(Default)]
struct Places {
    list: Vec<usize>,
    has: Vec<bool>,
}

impl Places {
    #[inline]
    fn insert(&mut self, place: usize) {
        if let Some(has) = self.has.get_mut(place)
            && !core::mem::replace(has, true)
        {
            self.list.push(place);
        }
    }

    /// Adds the others, which are none any more afterwards.
    fn take_in(&mut self, others: &mut Places) {
        while let Some(place) = others.list.pop() {
            if let Some(has) = others.has.get_mut(place) {
                *has = false;
            }
            self.insert(place);
        }
    }

    /// In the groups' order: what shows must not depend on who came first.
    fn sort(&mut self) {
        self.list.sort_unstable();
    }

    fn clear(&mut self) {
        while let Some(place) = self.list.pop() {
            if let Some(has) = self.has.get_mut(place) {
                *has = false;
            }
        }
    }
}

impl Groups {
    /// These groups.
    pub fn new(mut groups: Vec<Group>) -> Groups {
        groups.sort_unstable_by_key(|group| group.id);
        let none = || Places { list: Vec::new(), has: vec![false; groups.len()] };
        let (touched, ending, unwritten, unsynced) = (none(), none(), none(), none());
        let (deadlines_us, held_read_bytes) = (vec![0; groups.len()], vec![0; groups.len()]);
        let mut uncounted = none();
        (0..groups.len()).for_each(|place| uncounted.insert(place));
        Groups {
            all: groups,
            deadlines_us,
            earliest_us: 0,
            touched,
            ending,
            unwritten,
            unsynced,
            uncounted,
            held_read_bytes,
            all_held_read_bytes: 0,
        }
    }

    /// Where a group is; it stays there.
    pub fn place_of(&self, id: &GroupId) -> Option<usize> {
        self.all.binary_search_by_key(id, |group| group.id).ok()
    }

    #[inline]
    fn touch(&mut self, place: usize) {
        self.touched.insert(place);
        self.uncounted.insert(place);
    }

    /// Counts again, where it can have changed, what reads hold, and how long a record can be.
    pub fn count_reads(&mut self, longest_record: &mut usize) {
        for place in &self.uncounted.list {
            let known = self.held_read_bytes.get_mut(*place);
            let (Some(group), Some(known)) = (self.all.get(*place), known) else { continue };
            let now = group.held_read_bytes();
            self.all_held_read_bytes = self.all_held_read_bytes + now - *known;
            *known = now;
            *longest_record = group.state.store.longest().max(*longest_record);
        }
        self.uncounted.clear();
    }

    /// Bytes of what reads will answer, as of the last count.
    pub fn held_read_bytes(&self) -> u64 {
        self.all_held_read_bytes
    }

    /// The group at a place.
    #[inline]
    pub fn at(&mut self, place: usize) -> Option<&mut Group> {
        self.touch(place);
        self.all.get_mut(place)
    }

    /// The same, to look at.
    pub fn seen_at(&self, place: usize) -> Option<&Group> {
        self.all.get(place)
    }

    /// A group by its name.
    pub fn get(&self, id: &GroupId) -> Option<&Group> {
        self.all.get(self.place_of(id)?)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: &GroupId) -> Option<&mut Group> {
        let place = self.place_of(id)?;
        self.at(place)
    }

    /// Whether this node is a member of a group.
    pub fn contains_key(&self, id: &GroupId) -> bool {
        self.place_of(id).is_some()
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = &Group> {
        self.all.iter()
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        (0..self.all.len()).for_each(|place| self.touch(place));
        self.all.iter_mut()
    }

    /// Those that were touched, in order.
    pub fn touched(&mut self) -> impl Iterator<Item = &mut Group> {
        self.touched.sort();
        self.touched.list.iter().for_each(|place| self.uncounted.insert(*place));
        some(&mut self.all, &self.touched)
    }

    /// The turn ends for those that were touched: they are handed out in order, and who is touched
    /// from now on has another end of a turn before it.
    pub fn ending(&mut self) -> impl Iterator<Item = &mut Group> {
        self.ending.take_in(&mut self.touched);
        self.ending.sort();
        self.ending.list.iter().for_each(|place| self.uncounted.insert(*place));
        some(&mut self.all, &self.ending)
    }

    /// The turn has ended: writes down what that has appended, and takes note of what the groups
    /// wait for now.
    pub fn end_turn(&mut self, turn: &mut Turn<'_>) {
        self.touched.list.iter().for_each(|place| self.ending.insert(*place));
        self.ending.sort();
        some(&mut self.all, &self.ending).for_each(|group| group.record_turn(turn));
        for place in &self.ending.list {
            let Some(group) = self.all.get(*place) else { continue };
            let (newest, deadline_us) = (group.newest_record(), group.next_deadline());
            if newest > turn.local.written {
                self.unwritten.insert(*place);
            }
            if newest > turn.local.synced {
                self.unsynced.insert(*place);
            }
            if let Some(known_us) = self.deadlines_us.get_mut(*place) {
                *known_us = deadline_us;
            }
            self.earliest_us = self.earliest_us.min(deadline_us);
        }
        self.ending.clear();
    }

    /// The log is kept further: those to whom that may mean something, in order. `written` and
    /// `synced` say which of the two has grown.
    pub fn on_kept(&mut self, written: bool, synced: bool) -> impl Iterator<Item = &mut Group> {
        if written {
            self.touched.take_in(&mut self.unwritten);
        }
        if synced {
            self.touched.take_in(&mut self.unsynced);
        }
        self.touched()
    }

    /// A tick: those whose deadline has come, in order, or simply all.
    pub fn due(&mut self, now_us: u64, all: bool) -> impl Iterator<Item = &mut Group> {
        let is_due = move |deadline_us: &u64| all || *deadline_us <= now_us;
        for (place, _) in self.deadlines_us.iter().enumerate().filter(|(_, at)| is_due(at)) {
            self.touched.insert(place);
            self.uncounted.insert(place);
        }
        // These say at the turn's end when they want the next one.
        let later = self.deadlines_us.iter().filter(|at| !is_due(at)).min();
        self.earliest_us = later.copied().unwrap_or(u64::MAX);
        let due = self.all.iter_mut().zip(&self.deadlines_us);
        due.filter(move |(_, at)| is_due(at)).map(|(group, _)| group)
    }

    /// When the first of them wants a tick, as of the end of the last turn; or earlier.
    pub fn next_deadline(&self) -> u64 {
        self.earliest_us
    }
}

/// The groups at these places, which are sorted.
fn some<'a>(
    all: &'a mut [Group],
    places: &'a Places,
) -> impl Iterator<Item = &'a mut Group> + use<'a> {
    let (mut rest, mut next) = (all.iter_mut(), 0);
    places.list.iter().filter_map(move |place| {
        let group = rest.nth(place.checked_sub(next)?);
        next = place + 1;
        group
    })
}

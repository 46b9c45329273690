//! The groups with a leader that a node is a member of. They are known from the start and stay
//! where they are, so that a command finds its own by its place.

use crate::GroupId;
use crate::leader_follower::Group;
use alloc::vec::Vec;

/// The groups, in the order of their names.
#[derive(Default)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// These groups.
    pub fn new(mut groups: Vec<Group>) -> Groups {
        groups.sort_unstable_by_key(|group| group.id);
        Groups(groups)
    }

    /// Where a group is; it stays there.
    pub fn place_of(&self, id: &GroupId) -> Option<usize> {
        self.0.binary_search_by_key(id, |group| group.id).ok()
    }

    /// The group at a place.
    #[inline]
    pub fn at(&mut self, place: usize) -> Option<&mut Group> {
        self.0.get_mut(place)
    }

    /// The same, to look at.
    pub fn seen_at(&self, place: usize) -> Option<&Group> {
        self.0.get(place)
    }

    /// A group by its name.
    pub fn get(&self, id: &GroupId) -> Option<&Group> {
        self.0.get(self.place_of(id)?)
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
        self.0.iter()
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.0.iter_mut()
    }
}

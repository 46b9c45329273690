//! What is on its way to each other node, over all groups: there is one connection to a node, and
//! many groups may have much to send over it, as when a follower comes back.
//!
//! A group takes of a node's window as it sends and gives back what is acknowledged, or known to be
//! lost. One that finds no room waits in a line, and whoever comes later waits behind it; room goes
//! to the first of the line, one message at a time. Who has nothing to send never waits.

use crate::{GroupId, NodeId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The windows of all other nodes.
#[derive(Debug, Default)]
pub struct Windows {
    /// In the order of the nodes' numbers.
    nodes: Vec<Window>,
}

#[derive(Debug, Default)]
struct Window {
    bytes: usize,
    waiting: VecDeque<GroupId>,
}

impl Windows {
    /// Bytes that are on their way to a node.
    pub fn bytes(&self, node: NodeId) -> usize {
        self.nodes.get(usize::from(node.0)).map_or(0, |window| window.bytes)
    }

    /// A group that has had so many bytes on their way to a node has others now.
    #[inline]
    pub fn change(&mut self, node: NodeId, before: usize, now: usize) {
        if before != now
            && let Some(window) = self.of(node)
        {
            window.bytes = (window.bytes + now).saturating_sub(before);
        }
    }

    /// Whether a group may send: there is room, and nobody waits before it, or it is its turn.
    #[inline]
    pub fn is_open(&self, node: NodeId, bytes_max: usize, its_turn: bool) -> bool {
        self.nodes.get(usize::from(node.0)).is_none_or(|window| {
            window.bytes < bytes_max && (its_turn || window.waiting.is_empty())
        })
    }

    /// A group that does not wait yet waits for room.
    pub fn wait(&mut self, node: NodeId, group: GroupId) {
        if let Some(window) = self.of(node) {
            window.waiting.push_back(group);
        }
    }

    /// Whose turn it is now, and at which node; it waits no longer. `None`: nobody's.
    pub fn next(&mut self, bytes_max: usize) -> Option<(NodeId, GroupId)> {
        for (node, window) in (0..).zip(&mut self.nodes) {
            if window.bytes < bytes_max
                && let Some(group) = window.waiting.pop_front()
            {
                return Some((NodeId(node), group));
            }
        }
        None
    }

    fn of(&mut self, node: NodeId) -> Option<&mut Window> {
        let place = usize::from(node.0);
        if place >= self.nodes.len() {
            self.nodes.resize_with(place + 1, Window::default);
        }
        self.nodes.get_mut(place)
    }
}

//! What each sender has forwarded before: a batch that is repeated, overtaken or settled is never
//! carried out.

use crate::asked_token::AskedToken;
use crate::{Incarnation, NodeId, Session};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Disks of one sender that are remembered; of one that has had more while this process has run,
/// the one that was heard first is forgotten. Its connections ended that many disks ago.
const DISKS_MAX: usize = 16;
/// Senders that are remembered: no cluster has more members.
const SENDERS_MAX: usize = 1 << 10;

/// For each sender's disk the newest process, and the newest batch of that.
#[derive(Debug, Default)]
pub struct Seen(Vec<VecDeque<(Incarnation, Newest)>>);

/// A process by its number, and a batch by its own.
type Newest = (u64, u64);

impl Seen {
    /// Whether a batch is newer than all that were seen of its sender; from now on it is not.
    pub fn is_new(&mut self, from: NodeId, session: Session, batch: u64) -> bool {
        let place = usize::from(from.0);
        if place >= SENDERS_MAX {
            return false;
        }
        if place >= self.0.len() {
            self.0.resize_with(place + 1, VecDeque::new);
        }
        let disks = &mut self.0[place];
        let said = (session.boot, batch);
        if let Some((_, newest)) = disks.iter_mut().find(|(disk, _)| *disk == session.incarnation) {
            let is_new = said > *newest;
            *newest = said.max(*newest);
            return is_new;
        }
        if disks.len() >= DISKS_MAX {
            disks.pop_front();
        }
        disks.push_back((session.incarnation, said));
        said > Newest::default()
    }

    /// Whether a command can no longer be carried out here if it has not been.
    pub fn is_over(&self, asked: &AskedToken) -> bool {
        let Some(disks) = self.0.get(usize::from(asked.node.0)) else { return false };
        let of_disk = disks.iter().find(|(disk, _)| *disk == asked.session.incarnation);
        of_disk.is_some_and(|(_, newest)| *newest >= (asked.session.boot, asked.last_batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(disk: u64, boot: u64) -> Session {
        Session { incarnation: Incarnation(disk), boot }
    }

    #[test]
    fn what_was_seen_or_overtaken_is_not_new() {
        let mut seen = Seen::default();
        let node = NodeId(1);
        assert!(seen.is_new(node, session(1, 1), 4));
        assert!(!seen.is_new(node, session(1, 1), 4) && !seen.is_new(node, session(1, 1), 3));
        assert!(seen.is_new(node, session(1, 2), 1), "a later process counts anew");
        assert!(!seen.is_new(node, session(1, 1), 9), "an earlier one has ended");
        assert!(seen.is_new(node, session(2, 1), 1), "another disk, too");
        assert!(!seen.is_new(NodeId(u16::MAX), session(1, 1), 1), "there is no such node");
    }

    #[test]
    fn only_so_many_disks_are_remembered() {
        let mut seen = Seen::default();
        for disk in 0..100 {
            assert!(seen.is_new(NodeId(0), session(disk, 1), 1));
        }
        assert_eq!(seen.0.iter().map(VecDeque::len).sum::<usize>(), DISKS_MAX);
        assert!(!seen.is_new(NodeId(0), session(99, 1), 1));
    }
}

//! Which leader wrote which part of the log: each epoch's first index, and the node that led it.
//!
//! It outlives the entries: the name (epoch, index) of an entry that is long gone from the log can
//! still be told from that of one which another leader has put in its place.

use super::entry::{Entry, Opener, Payload};
use crate::version::EntryId;
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{Incarnation, NodeId};
use alloc::collections::VecDeque;

/// Epochs that a group remembers. The oldest is forgotten first, and what it wrote can then no
/// longer be told from what it did not.
pub const EPOCHS_MAX: usize = 4096;

/// One leadership's part of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reign {
    /// Its epoch.
    pub epoch: u64,
    /// Its first entry.
    pub first_index: u64,
    /// Who led.
    pub leader: NodeId,
    /// With which disk.
    pub incarnation: Incarnation,
    /// Whether it began under a possible loss: its leader may have lacked committed entries.
    pub after_loss: bool,
    /// See [`Opener::heard`].
    pub heard: u64,
    /// See [`Opener::may_lack`].
    pub may_lack: bool,
    /// See [`Opener::torn`].
    pub torn: bool,
    /// The entry that says that its leader was heard out after it, or that nobody wants to hear
    /// of it; 0 for none.
    pub heard_out: u64,
}

/// The leaderships whose entries are in this node's log or were in it before it was shortened at
/// its beginning; in the order of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Epochs {
    reigns: VecDeque<Reign>,
    /// Reigns that began at or before this index may be forgotten.
    forgotten_up_to: u64,
    /// The newest forgotten epoch that began under a possible loss.
    forgotten_loss: u64,
    /// See [`Epochs::history`].
    history: u64,
}

impl Epochs {
    /// An entry is in the log: if it opens an epoch, that is remembered.
    #[inline]
    pub fn note(&mut self, entry: &Entry<'_>) {
        match entry.payload {
            Payload::Opening(opener) => self.open(entry.id, opener),
            Payload::OpeningAfterLoss(opener, _) => self.open_after_loss(entry.id, opener),
            Payload::HeardOut(epoch) => self.hear_out(entry.id, epoch),
            _ => {}
        }
    }

    /// The entry that opens an epoch is in the log.
    pub fn open(&mut self, id: EntryId, opener: Opener) {
        self.push(id, opener, false);
    }

    /// The same for an epoch that began under a possible loss.
    pub fn open_after_loss(&mut self, id: EntryId, opener: Opener) {
        self.push(id, opener, true);
    }

    fn push(&mut self, id: EntryId, opener: Opener, after_loss: bool) {
        if self.reigns.back().is_some_and(|newest| newest.epoch >= id.epoch) {
            return;
        }
        let Opener { node: leader, incarnation, heard, may_lack, torn } = opener;
        self.reigns.push_back(Reign {
            epoch: id.epoch,
            first_index: id.index,
            leader,
            incarnation,
            after_loss,
            heard,
            may_lack,
            torn,
            heard_out: 0,
        });
        if after_loss {
            self.history = id.epoch;
        }
        if self.reigns.len() > EPOCHS_MAX {
            let forgotten = self.reigns.pop_front().filter(|reign| reign.after_loss);
            self.forgotten_loss = forgotten.map_or(self.forgotten_loss, |reign| reign.epoch);
            self.forgotten_up_to = self.reigns.front().map_or(0, |reign| reign.first_index - 1);
        }
    }

    /// The entry that says that an epoch's leader was heard out is in the log.
    fn hear_out(&mut self, id: EntryId, epoch: u64) {
        if let Ok(place) = self.reigns.binary_search_by_key(&epoch, |reign| reign.epoch)
            && let Some(reign) = self.reigns.get_mut(place)
        {
            reign.heard_out = id.index;
        }
    }

    /// The leaderships that ended without their leaders being heard out, where acknowledged writes
    /// may have gone with them; each with its successor. A leader that leads again with the same
    /// disk has heard itself out, unless that is torn.
    pub fn unheard(&self) -> impl Iterator<Item = (Reign, Reign)> {
        let pairs = self.reigns.iter().copied().zip(self.reigns.iter().copied().skip(1));
        pairs.filter(|(reign, next)| {
            let disk = |reign: &Reign| (reign.leader, reign.incarnation);
            let is_over = disk(reign) != disk(next) || next.after_loss || next.torn;
            reign.heard_out == 0 && next.may_lack && is_over
        })
    }

    /// The log was cut after an index.
    pub fn cut(&mut self, last_kept: u64) {
        while self.reigns.pop_back_if(|reign| reign.first_index > last_kept).is_some() {}
        for reign in self.reigns.iter_mut().filter(|reign| reign.heard_out > last_kept) {
            reign.heard_out = 0;
        }
        self.find_history();
    }

    /// The leadership that wrote the log's entry at an index; `None` if that is forgotten, or if
    /// the index is before the first leadership. The caller knows that the log reaches so far.
    pub fn reign_at(&self, index: u64) -> Option<Reign> {
        let after = self.reigns.partition_point(|reign| reign.first_index <= index);
        self.reigns.get(after.checked_sub(1)?).copied()
    }

    /// The leadership of an epoch whose first entry is in the log.
    pub fn reign_of(&self, epoch: u64) -> Option<Reign> {
        let place = self.reigns.binary_search_by_key(&epoch, |reign| reign.epoch).ok()?;
        self.reigns.get(place).copied()
    }

    /// The first index of the leadership that comes after an epoch in the log, if one does.
    pub fn first_index_after(&self, epoch: u64) -> Option<u64> {
        let place = self.reigns.partition_point(|reign| reign.epoch <= epoch);
        Some(self.reigns.get(place)?.first_index)
    }

    /// Whether a leadership of an epoch may have been forgotten.
    pub fn may_have_forgotten(&self, epoch: u64) -> bool {
        self.forgotten_up_to > 0 && self.reigns.front().is_none_or(|oldest| epoch < oldest.epoch)
    }

    /// The newest epoch in the log that began under a possible loss; 0 for none. Logs with the same
    /// one are the same up to its first entry, and no election since has lost anything.
    pub fn history(&self) -> u64 {
        self.history
    }

    /// The first index of each remembered leadership.
    pub fn first_indexes(&self) -> impl Iterator<Item = u64> {
        self.reigns.iter().map(|reign| reign.first_index)
    }

    /// The first indexes above an index of the leaderships that began under a possible loss, the
    /// newest first.
    pub fn losses_after(&self, index: u64) -> impl Iterator<Item = u64> {
        let newer = self.reigns.iter().rev().take_while(move |reign| reign.first_index > index);
        newer.filter(|reign| reign.after_loss).map(|reign| reign.first_index)
    }

    fn find_history(&mut self) {
        let newest = self.reigns.iter().rev().find(|reign| reign.after_loss);
        self.history = newest.map_or(self.forgotten_loss, |reign| reign.epoch);
    }

    /// Up to this index, what wrote an entry may be forgotten.
    pub fn forgotten_up_to(&self) -> u64 {
        self.forgotten_up_to
    }

    /// The reigns that began at or before an index, for an image of the state there.
    pub fn up_to(&self, index: u64) -> Epochs {
        let mut epochs = self.clone();
        epochs.cut(index);
        epochs
    }

    /// Writes the reigns.
    pub fn encode(&self, w: &mut Writer<'_>) {
        w.u64(self.forgotten_up_to);
        w.u64(self.forgotten_loss);
        w.u32(self.reigns.len() as u32);
        for reign in &self.reigns {
            w.u64(reign.epoch);
            w.u64(reign.first_index);
            w.u16(reign.leader.0);
            w.u64(reign.incarnation.0);
            w.bool(reign.after_loss);
            w.u64(reign.heard);
            w.bool(reign.may_lack);
            w.bool(reign.torn);
            w.u64(reign.heard_out);
        }
    }

    /// Reads what [`Epochs::encode`] has written.
    pub fn decode(r: &mut Reader<'_>) -> Read<Epochs> {
        let (forgotten_up_to, forgotten_loss) = (r.u64()?, r.u64()?);
        let mut epochs = Epochs { forgotten_up_to, forgotten_loss, ..Epochs::default() };
        for _ in 0..r.u32()? {
            let (epoch, first_index) = (r.u64()?, r.u64()?);
            // Whoever walks along them relies on their order, and there is no entry 0.
            let before = epochs.reigns.back().map_or((0, 0), |last| (last.epoch, last.first_index));
            if epoch <= before.0 || first_index <= before.1 {
                return Err(Malformed);
            }
            epochs.reigns.push_back(Reign {
                epoch,
                first_index,
                leader: r.node()?,
                incarnation: r.incarnation()?,
                after_loss: r.bool()?,
                heard: r.u64()?,
                may_lack: r.bool()?,
                torn: r.bool()?,
                heard_out: r.u64()?,
            });
        }
        epochs.find_history();
        Ok(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener(node: u16) -> Opener {
        let (node, incarnation) = (NodeId(node), Incarnation(7));
        Opener { node, incarnation, heard: 0, may_lack: true, torn: false }
    }

    fn id(epoch: u64, index: u64) -> EntryId {
        EntryId { epoch, index }
    }

    #[test]
    fn an_index_belongs_to_the_reign_before_it_until_that_is_cut() {
        let mut epochs = Epochs::default();
        epochs.open(id(1, 1), opener(0));
        epochs.open(id(3, 5), opener(1));
        let epoch_at = |epochs: &Epochs, index| epochs.reign_at(index).map(|reign| reign.epoch);
        assert_eq!(
            [0, 1, 4, 5, 9].map(|i| epoch_at(&epochs, i)),
            [None, Some(1), Some(1), Some(3), Some(3)]
        );
        assert_eq!(epochs.reign_of(3).map(|reign| reign.leader), Some(NodeId(1)));
        epochs.cut(4);
        assert_eq!(epoch_at(&epochs, 9), Some(1));
        assert_eq!(epochs.reign_of(3), None);
    }

    #[test]
    fn a_leader_is_unheard_until_an_entry_says_otherwise_and_again_when_that_is_cut() {
        let mut epochs = Epochs::default();
        for (epoch, index, node) in [(1, 1, 0), (2, 5, 1), (3, 9, 1), (4, 12, 2)] {
            epochs.open(id(epoch, index), opener(node));
        }
        let unheard = |epochs: &Epochs| -> alloc::vec::Vec<(u64, u64)> {
            epochs.unheard().map(|(reign, next)| (reign.epoch, next.first_index)).collect()
        };
        assert_eq!(unheard(&epochs), [(1, 5), (3, 12)], "epoch 2's leader led on with its disk");
        epochs.hear_out(id(4, 20), 1);
        assert_eq!(unheard(&epochs), [(3, 12)]);
        assert_eq!(unheard(&epochs.up_to(19)), [(1, 5), (3, 12)]);
        epochs.cut(11);
        assert_eq!(unheard(&epochs), [(1, 5)]);
        epochs.open(id(5, 12), Opener { may_lack: false, ..opener(2) });
        assert_eq!(unheard(&epochs), [(1, 5)], "nothing acknowledged can have gone with epoch 3");
        epochs.open(id(6, 15), Opener { torn: true, ..opener(2) });
        assert_eq!(unheard(&epochs), [(1, 5), (5, 15)], "it led on, and its disk was torn");
    }

    #[test]
    fn epochs_out_of_their_order_are_not_read() {
        let read = |reigns: &[(u64, u64)]| {
            let (mut epochs, mut bytes) = (Epochs::default(), alloc::vec::Vec::new());
            epochs.open(id(1, 1), opener(0));
            let reign = |&(epoch, first_index)| {
                epochs.reign_at(1).map(|r| Reign { epoch, first_index, ..r })
            };
            epochs.reigns = reigns.iter().filter_map(reign).collect();
            epochs.encode(&mut Writer(&mut bytes));
            Epochs::decode(&mut Reader(&bytes)).map(|read| read == epochs)
        };
        assert_eq!(read(&[(1, 1), (2, 5), (7, 6)]), Ok(true));
        for wrong in [[(1, 0), (2, 5)], [(0, 1), (2, 5)], [(1, 5), (2, 5)], [(2, 1), (2, 5)]] {
            assert_eq!(read(&wrong), Err(Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_says_so() {
        let mut epochs = Epochs::default();
        for epoch in 1..=EPOCHS_MAX as u64 + 2 {
            epochs.open(id(epoch, 10 * epoch), opener(0));
        }
        assert_eq!(epochs.forgotten_up_to(), 29);
        assert_eq!(epochs.reign_at(29), None);
        assert_eq!(epochs.reign_at(30).map(|reign| reign.epoch), Some(3));
    }
}

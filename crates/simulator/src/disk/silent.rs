//! A sync that fails and is tried again: only a planted bug does that.

use super::Disk;

impl Disk {
    /// What was not synced is gone, and nothing will say so: what a sync that has failed leaves
    /// behind on Linux, whose next sync succeeds.
    pub fn lose_silently(&mut self) {
        for segment in &mut self.segments {
            segment.lose(segment.synced..segment.used);
        }
    }
}

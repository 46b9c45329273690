//! What the writer is told: every held write is answered here, and nowhere else.

use super::super::Group;
use super::super::leader::Leader;
use super::super::lost_writes::report::Level;
use super::held::Write;
use crate::command::Reply;
use crate::turn::{LastWrite, Turn};
use alloc::format;

impl Group {
    /// A write has what its writer waits for.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, write: Write) {
        self.note_acknowledged(turn, write.id, Level::Durable);
        let last_write = LastWrite::Entry { group: self.id, id: write.id };
        turn.answer(write.requester, write.reply, Some(last_write));
    }

    /// A write does not have what its writer waits for, and nobody waits any longer. `acked`
    /// copies are known, where somebody still counts.
    pub(super) fn leave_open(
        &mut self,
        turn: &mut Turn<'_>,
        write: Write,
        acked: Option<usize>,
        why: &str,
    ) {
        let acked = acked.map_or_else(Default::default, |acked| format!("acked={acked} "));
        let text = format!(
            "UNKNOWN {acked}need={} epoch={} index={}: {why}; the write may or may not survive",
            self.quorum.acks, write.id.epoch, write.id.index
        );
        turn.refuse(write.requester, text);
    }

    /// The leadership is over: reads may be tried again, the outcome of writes is open.
    pub(in super::super) fn revoke(&mut self, turn: &mut Turn<'_>, leader: Leader, reason: &str) {
        let why = format!("this leader stepped down ({reason})");
        for write in leader.held.writes {
            self.leave_open(turn, write, None, &why);
        }
        for read in leader.held.reads {
            turn.refuse(read.requester, format!("TRYAGAIN {why}"));
        }
        for wait in leader.held.waits {
            turn.answer(wait.requester, Reply::Integer(0), None);
        }
    }
}

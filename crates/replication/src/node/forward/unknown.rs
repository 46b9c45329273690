//! What the client of a forwarded command is told when its answer fails to come: that a read may
//! be tried again, and that the outcome of a write is open, with a token (`asked_token.rs`) that
//! tells later what has become of it.

use super::receive::with_work;
use super::sent::Sent;
use super::{Forwards, Roles};
use crate::Reply;
use crate::asked_token::AskedToken;
use crate::node::part::Part;
use crate::node::requests::Work;
use crate::turn::{LastWrite, Requester, Turn};
use alloc::format;
use alloc::string::String;

const ASK_LATER: &str = "the write may or may not survive, TF.OUTCOME with the token tells later";

impl Forwards {
    /// Takes note of the batches that nothing is out of any more.
    pub(in crate::node) fn settle(&mut self) {
        self.settled = self.sent.oldest_batch().unwrap_or(self.next_sequence);
    }

    /// Up to which batch nothing was out any more when that was looked at last.
    pub(in crate::node) fn settled(&self) -> u64 {
        self.settled
    }
}

impl Roles {
    /// The answer to a command is not waited for any longer.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, sent: &Sent, why: &str) {
        let (token, advice) = match sent.command.is_write {
            true => self.about_open(turn, sent),
            false => (String::new(), ""),
        };
        let name = self.cluster.member(sent.to).map_or("?", |member| &member.name);
        let text = match sent.command.is_write {
            true => format!("UNKNOWN{token} : {why} ({name}); {advice}"),
            false => format!("TRYAGAIN {why} ({name})"),
        };
        // What is not known to be anywhere has no copies that a WAIT could count.
        let none = LastWrite::Copies { acks: 0, synced: false };
        let last_write = sent.command.is_write.then_some(none);
        turn.answer(sent.command.requester, Reply::error(text), last_write);
    }

    /// The token of a write whose outcome is open, where there can be one, and what its client can
    /// do.
    fn about_open(&mut self, turn: &Turn<'_>, sent: &Sent) -> (String, &'static str) {
        let no_token = |advice| (String::new(), advice);
        if self.is_leaderless(sent.group) {
            return no_token("the write may or may not survive; without a leader nobody can tell");
        }
        let is_part = matches!(sent.command.requester, Requester::Part { .. });
        let mut spans = core::mem::take(&mut self.forwards.spans);
        let kind = with_work(&sent.command.encoded, &mut spans, |work| match work {
            Work::Key(command, _) if is_part => Ok(AskedToken::mark_of(command.key)),
            Work::Once(..) => Err("send it again under the same number: it is carried out once"),
            Work::Part(Part::Switchover { .. }) => Err("TF.STATUS tells who leads"),
            _ => Ok(0),
        });
        self.forwards.spans = spans;
        let key_mark = match kind {
            Some(Ok(key_mark)) => key_mark,
            Some(Err(advice)) => return no_token(advice),
            None => return no_token("the write may or may not survive"),
        };
        let Some(asker) = sent.command.asker.as_ref().filter(|asker| asker.node == turn.local.me)
        else {
            return no_token("the write may or may not survive");
        };
        let token = AskedToken {
            group: sent.group,
            epoch: sent.bound.epoch,
            after_index: sent.bound.after_index,
            node: asker.node,
            session: self.session,
            client: asker.client,
            sequence: asker.sequence,
            key_mark,
            last_batch: self.forwards.next_sequence,
        };
        (format!(" token={}", token.to_word(turn.local.cluster)), ASK_LATER)
    }
}

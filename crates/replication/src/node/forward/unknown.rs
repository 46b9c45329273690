//! What the client of a forwarded command is told when its answer fails to come: that a read may
//! be tried again, and that the outcome of a write is open, with a token (`asked_token.rs`) that
//! tells later what has become of it. How many acks the write wants is known here, how many it has
//! is not: `acked=?`.

use super::receive::with_work;
use super::sent::Sent;
use super::{Forwards, Roles};
use crate::asked_token::AskedToken;
use crate::command::verb::With;
use crate::keyspace::{GroupOptions, Model};
use crate::mutant::Mutant;
use crate::node::part::Part;
use crate::node::requests::Work;
use crate::quorum::copies_of;
use crate::turn::{LastWrite, Requester, Turn};
use crate::{GroupId, NodeId, Reply};
use alloc::format;
use alloc::string::String;

const ASK_LATER: &str = "the write may or may not survive, TF.OUTCOME with the token tells later";
const ASK_AGAIN: &str = "send it again under the same number: it is carried out once";
const NO_TOKEN: &str = "the write may or may not survive";

impl Forwards {
    /// Takes note of the batches that nothing is out of any more.
    pub(in crate::node) fn settle(&mut self) {
        self.settled = (self.next_sequence, self.sent.oldest_batches());
    }

    /// Up to which batch nothing was out any more at a node when that was looked at last. What
    /// another node has for long is not counted: it may block for as long as it likes.
    pub(in crate::node) fn settled_at(&self, node: NodeId) -> u64 {
        let (newest, open) = &self.settled;
        open.get(&node).copied().unwrap_or(*newest)
    }
}

impl Roles {
    /// The answer to a command is not waited for any longer.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, sent: &Sent, why: &str) {
        let (about, advice) = match sent.command.is_write {
            true => self.about_open(turn, sent),
            false => (String::new(), ""),
        };
        let name = self.cluster.member(sent.to).map_or("?", |member| &member.name);
        let text = match sent.command.is_write {
            true => format!("UNKNOWN{about} : {why} ({name}); {advice}"),
            false => format!("TRYAGAIN {why} ({name})"),
        };
        // What is not known to be anywhere has no copies that a WAIT could count.
        let none = LastWrite::Copies { acks: 0, synced: false };
        let last_write = sent.command.is_write.then_some(none);
        turn.answer(sent.command.requester, Reply::error(text), last_write);
    }

    /// What is known of a write whose outcome is open: the acks that it wants, and its token where
    /// there can be one. And what its client can do.
    fn about_open(&mut self, turn: &Turn<'_>, sent: &Sent) -> (String, &'static str) {
        let is_part = matches!(sent.command.requester, Requester::Part { .. });
        let mut spans = core::mem::take(&mut self.forwards.spans);
        let kind = with_work(&sent.command.encoded, &mut spans, |work| {
            let with = work.with().unwrap_or_default();
            match work {
                Work::Part(Part::Switchover { .. }) => (None, Err("TF.STATUS tells who leads")),
                Work::Key(command, _) if is_part => {
                    (Some(with), Ok(AskedToken::mark_of(command.key)))
                }
                Work::Once(..) => (Some(with), Err(ASK_AGAIN)),
                _ => (Some(with), Ok(0)),
            }
        });
        self.forwards.spans = spans;
        let Some((with, key_mark)) = kind else { return (String::new(), NO_TOKEN) };
        let acks = with.and_then(|with| self.wanted_acks(sent.group, with));
        let acks = acks.map_or_else(String::new, |need| format!(" acked=? need={need}"));
        if self.is_leaderless(sent.group) {
            return (acks, "the write may or may not survive; without a leader nobody can tell");
        }
        let key_mark = match key_mark {
            Ok(key_mark) => key_mark,
            Err(advice) => return (acks, advice),
        };
        let Some(asker) = sent.command.asker.as_ref().filter(|asker| asker.node == turn.local.me)
        else {
            return (acks, NO_TOKEN);
        };
        let after_index = match turn.local.mutants.is(Mutant::AskedTooFar) {
            true => self.led_by(sent.group, sent.to).last,
            false => sent.bound.after_index,
        };
        let token = AskedToken {
            group: sent.group,
            epoch: sent.bound.epoch,
            after_index,
            node: asker.node,
            session: self.session,
            client: asker.client,
            sequence: asker.sequence,
            key_mark,
            last_batch: self.forwards.next_sequence,
        };
        (format!("{acks} token={}", token.to_word(turn.local.cluster)), ASK_LATER)
    }

    /// How many acks a write of a group waits for.
    fn wanted_acks(&self, group: GroupId, with: With) -> Option<usize> {
        let of = |options: &GroupOptions| {
            copies_of(with.acks.unwrap_or(options.acks), usize::from(options.replicas))
        };
        Some(match &self.cluster.keyspace(group.keyspace)?.model {
            Model::LeaderFollower(options) => of(&options.group),
            Model::MultiLeader(options) => of(&options.group),
            Model::Leaderless(options) => usize::from(with.w.unwrap_or(options.w)),
        })
    }
}

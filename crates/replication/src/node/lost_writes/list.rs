//! `TF.LOST LIST`: what all nodes report, a part at a time, in the order of ids.

use super::message::{Answer, Found, LostId, Page, Question};
use super::{LISTED_MAX, Query, reply};
use crate::leader_follower::Group;
use crate::leader_follower::lost_writes::report::{LostWrite, What};
use crate::node::Roles;
use crate::node::message::Message;
use crate::storage::record::Value;
use crate::turn::Turn;
use crate::{Message as AnyMessage, Reply};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Bytes of keys and values that one node puts into a LIST.
const LISTED_BYTES_MAX: usize = 8 << 20;
/// Bytes of a value that LIST shows; SHOW shows all of them.
const LISTED_VALUE_BYTES_MAX: usize = 1024;
impl Roles {
    pub(super) fn list_lost(&self, page: Page<'_>) -> Answer {
        let Page { prefix, after, count } = page;
        let count = LISTED_MAX.min(count as usize);
        let mut answer = Answer::default();
        let mut bytes = 0;
        let mut groups: Vec<&Group> = self.groups.values().collect();
        groups.sort_by_key(|group| group.id);
        for group in groups {
            let keyspace = self.cluster.keyspace(group.id.keyspace);
            let keyspace = keyspace.map_or(&[][..], |keyspace| &keyspace.prefix);
            for write in group.reported().filter(|write| write.is_under(prefix, keyspace)) {
                let id = LostId { group: group.id, entry: write.id };
                if after.is_some_and(|after| id <= after) {
                    continue;
                }
                if answer.found.len() >= count || bytes >= LISTED_BYTES_MAX {
                    answer.more += 1;
                    continue;
                }
                let found = shortened(write.clone());
                bytes += found.write.bytes();
                answer.found.insert(id, found);
            }
            if answer.more > 0 && answer.whole_up_to.is_none() {
                answer.whole_up_to = answer.found.keys().next_back().copied();
            }
            let forgotten = group.forgotten().map(|entry| LostId { group: group.id, entry });
            let room = LISTED_MAX.saturating_sub(answer.forgotten.len());
            answer.forgotten.extend(forgotten.filter(|id| Some(*id) > after).take(room));
            let is_under = keyspace.starts_with(prefix) || prefix.starts_with(keyspace);
            // They are in the list's first part.
            if !is_under || after.is_some() {
                continue;
            }
            let unheard = group.unheard().take(LISTED_MAX);
            answer.unheard.extend(unheard.map(|unheard| (group.id, unheard)));
            let given_up = group.reported_counts().given_up;
            if given_up > 0 {
                answer.given_up.insert(group.id, given_up);
            }
        }
        answer
    }

    /// LIST's reply. Who still reports what others have forgotten is told to forget it.
    pub(super) fn tell_list(&mut self, turn: &mut Turn<'_>, mut query: Query, count: usize) {
        for id in query.answer.hide_forgotten() {
            self.forget_everywhere(turn, id);
        }
        let next = query.answer.cut_to(count);
        let answer = &query.answer;
        let is_empty = answer.found.is_empty() && answer.more == 0;
        let tells_else = !answer.unheard.is_empty() || !answer.given_up.is_empty();
        let reply = match query.unnamed {
            Some(error) if is_empty && !tells_else && query.silent.is_empty() => error,
            _ => reply::list(&self.cluster, answer, next, query.silent.iter().copied()),
        };
        turn.answer(query.requester, reply, None);
    }

    /// Nobody waits for the answers: who does not hear of it will be told with the next list.
    fn forget_everywhere(&mut self, turn: &mut Turn<'_>, id: LostId) {
        let question = Question::Forget(id, None);
        let nodes = self.placement.get(&id.group).cloned().unwrap_or_default();
        for node in nodes {
            if node == turn.local.me {
                self.know_of_lost(turn, question);
                continue;
            }
            let session = self.peers.get(usize::from(node.0)).and_then(|peer| peer.session);
            if let Some(to) = session.filter(|_| self.is_up(turn, node)) {
                let question = Cow::Owned(question.encode());
                let message = Message::AskLost { to, from: self.session, token: 0, question };
                turn.send(node, AnyMessage::Node(message));
            }
        }
    }

    /// What to say of a list of nothing, if no keyspace but the one of all other keys has to do
    /// with the prefix.
    pub(super) fn unnamed(&self, question: Question<'_>) -> Option<Reply<'static>> {
        let Question::List(Page { prefix, after: None, .. }) = question else { return None };
        let mut named = self.cluster.keyspaces.iter().filter(|keyspace| {
            let own = &*keyspace.prefix;
            own.starts_with(prefix) || !own.is_empty() && prefix.starts_with(own)
        });
        if named.next().is_some() { None } else { self.keyspace_named(prefix).err() }
    }
}

/// A report as a list shows it: long values are cut short, and counted.
fn shortened(mut write: LostWrite) -> Found {
    let mut shortened = 0;
    if let What::Changes(changes) = &mut write.what {
        let records = changes.iter_mut().flat_map(|c| [c.old.as_mut(), c.new.as_mut()]);
        for record in records.flatten() {
            if let Value::String(bytes) = &mut record.value
                && bytes.len() > LISTED_VALUE_BYTES_MAX
                && record.increments.is_empty()
            {
                bytes.to_mut().truncate(LISTED_VALUE_BYTES_MAX);
                shortened += 1;
            }
        }
    }
    Found { write, shortened }
}

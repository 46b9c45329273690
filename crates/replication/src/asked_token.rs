//! Tokens of writes whose place in the log is not known to the node that answers: it has forwarded
//! them to a leader, and the answer has not come.
//!
//! Such a token names the command by who asked, as its entry does if it has become one: node,
//! process, connection, number. And it says what the forwarder knew when it sent it: the write was
//! *bound* to the leader of one epoch, which is the only one that may carry it out; that leader's
//! log already went up to `after_index`; and nothing of the batches up to `last_batch` is carried
//! out once the leader has heard of a later one, or has heard that all of them that it got are settled.
//! `leader_follower/acks/asked.rs` says what follows from that.

use crate::token::{self, Token, TokenError};
use crate::wire::{Read, Reader, Writer};
use crate::{ClientId, GroupId, NodeId, Session};
use alloc::string::String;
use xxhash_rust::xxh3::xxh3_64;

/// The form that this version makes and reads.
const VERSION: u8 = b'2';

/// Which command, sent where and when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AskedToken {
    /// The group that it was for.
    pub group: GroupId,
    /// The epoch of the leader that it was sent to.
    pub epoch: u64,
    /// That leader's log had this entry before.
    pub after_index: u64,
    /// The node that the client was connected to.
    pub node: NodeId,
    /// Its process.
    pub session: Session,
    /// The connection there.
    pub client: ClientId,
    /// The command's number on the connection.
    pub sequence: u64,
    /// Of a command that was taken apart by keys, which key's part this is, by
    /// [`AskedToken::mark_of`]; 0 for all others.
    pub key_mark: u32,
    /// The forwarder's batches that it may have gone in have no larger number.
    pub last_batch: u64,
}

/// A token of either kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AnyToken {
    /// Of an entry.
    Entry(Token),
    /// Of a command that may have become one.
    Asked(AskedToken),
}

impl AnyToken {
    /// Reads a word.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(word: &[u8], cluster: u32) -> Result<AnyToken, TokenError> {
        match word {
            [VERSION, digits @ ..] => {
                token::parse(digits, cluster, AskedToken::read).map(AnyToken::Asked)
            }
            _ => Token::parse(word, cluster).map(AnyToken::Entry),
        }
    }

    /// The group that it speaks of.
    pub fn group(&self) -> GroupId {
        match self {
            AnyToken::Entry(token) => token.group,
            AnyToken::Asked(asked) => asked.group,
        }
    }
}

impl AskedToken {
    /// A short mark of a key, never 0.
    pub fn mark_of(key: &[u8]) -> u32 {
        xxh3_64(key) as u32 | 1
    }

    /// The word, for a cluster of this number.
    pub fn to_word(&self, cluster: u32) -> String {
        token::word(VERSION, cluster, |w| self.write(w))
    }

    /// Writes the token.
    pub fn write(&self, w: &mut Writer<'_>) {
        w.group(self.group);
        w.short(self.epoch);
        w.short(self.after_index);
        w.u16(self.node.0);
        w.u64(self.session.incarnation.0);
        w.short(self.session.boot);
        w.short(self.client.0);
        w.short(self.sequence);
        w.u32(self.key_mark);
        w.short(self.last_batch);
    }

    /// Reads what [`AskedToken::write`] has written.
    pub fn read(r: &mut Reader<'_>) -> Read<AskedToken> {
        Ok(AskedToken {
            group: r.group()?,
            epoch: r.short()?,
            after_index: r.short()?,
            node: r.node()?,
            session: Session { incarnation: r.incarnation()?, boot: r.short()? },
            client: ClientId(r.short()?),
            sequence: r.short()?,
            key_mark: r.u32()?,
            last_batch: r.short()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::EntryId;
    use crate::{DatacenterId, Incarnation, KeyspaceId};

    const GROUP: GroupId = GroupId {
        keyspace: KeyspaceId(0xdead_beef),
        generation: 0,
        partition: 3,
        datacenter: DatacenterId(1),
    };

    #[test]
    fn both_kinds_come_back_as_they_went() {
        let asked = AskedToken {
            group: GROUP,
            epoch: 7,
            after_index: 1_000_000,
            node: NodeId(2),
            session: Session { incarnation: Incarnation(u64::MAX), boot: 300 },
            client: ClientId(12),
            sequence: 99_999,
            key_mark: AskedToken::mark_of(b"k"),
            last_batch: 4_000,
        };
        let entry = Token { group: GROUP, id: EntryId { epoch: 7, index: 8 } };
        let word = asked.to_word(5);
        assert_eq!(AnyToken::parse(word.as_bytes(), 5), Ok(AnyToken::Asked(asked)));
        let other = entry.to_word(5);
        assert_eq!(AnyToken::parse(other.as_bytes(), 5), Ok(AnyToken::Entry(entry)));
        assert_eq!(AnyToken::parse(word.as_bytes(), 6), Err(TokenError::OtherCluster));
        for length in 0..word.len() {
            let cut = word.as_bytes().get(..length).unwrap_or(&[]);
            assert_eq!(AnyToken::parse(cut, 5), Err(TokenError::Malformed), "{length}");
        }
    }
}

//! Tokens: the place of a write in its group's log (`asked_token.rs` has those of writes whose
//! place is not known), as a word that a client can keep and bring
//! back to any node, also over RESP2 and after a failover.
//!
//! The first byte is the version of the form. What follows is opaque to clients: which cluster
//! made it, the group, (epoch, index), and a checksum, so that a word that was cut short or
//! mistyped is refused and never taken for another write's.

use crate::GroupId;
use crate::keyspace::Cluster;
use crate::version::EntryId;
use crate::wire::{Read, Reader, Writer};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use xxhash_rust::xxh3::xxh3_64;

/// The form that this version makes and reads.
const VERSION: u8 = b'1';

/// Which write of which group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token {
    /// The group that ordered it.
    pub group: GroupId,
    /// Its name in the group's log.
    pub id: EntryId,
}

/// Why a word is no token of this cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenError {
    /// It is of another form, cut short or mistyped.
    Malformed,
    /// A later version has made it.
    NewerVersion,
    /// Another cluster has made it.
    OtherCluster,
}

impl TokenError {
    /// The error to answer with.
    pub fn text(self) -> &'static str {
        match self {
            TokenError::Malformed => {
                "ERR this is not a token: it is the word behind token= in an -UNKNOWN reply"
            }
            TokenError::NewerVersion => "ERR this token is of a form that this version cannot read",
            TokenError::OtherCluster => "ERR this token is another cluster's",
        }
    }
}

/// A cluster's number in its tokens: a hash of its name.
pub fn cluster_number(cluster: &Cluster) -> u32 {
    xxh3_64(cluster.name.as_bytes()) as u32
}

impl Token {
    /// The word, for a cluster of this number.
    pub fn to_word(self, cluster: u32) -> String {
        word(VERSION, cluster, |w| {
            w.group(self.group);
            w.entry_id(self.id);
        })
    }

    /// Reads a word.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(word: &[u8], cluster: u32) -> Result<Token, TokenError> {
        let digits = match word {
            [VERSION, digits @ ..] => digits,
            [b'3'..=b'9', ..] => return Err(TokenError::NewerVersion),
            _ => return Err(TokenError::Malformed),
        };
        parse(digits, cluster, |r| Ok(Token { group: r.group()?, id: r.entry_id()? }))
    }
}

/// The word of a form, with what `write` puts into it.
pub(crate) fn word(form: u8, cluster: u32, write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut bytes = Vec::new();
    let mut w = Writer(&mut bytes);
    w.u32(cluster);
    write(&mut w);
    let check = xxh3_64(&bytes) as u16;
    Writer(&mut bytes).u16(check);
    let mut word = String::from(char::from(form));
    for byte in bytes {
        word += &format!("{byte:02x}");
    }
    word
}

/// Reads what follows the form in a word.
pub(crate) fn parse<T>(
    digits: &[u8],
    cluster: u32,
    read: impl FnOnce(&mut Reader<'_>) -> Read<T>,
) -> Result<T, TokenError> {
    let bytes = from_hexadecimal(digits).ok_or(TokenError::Malformed)?;
    let (of, token) = decode(&bytes, read).map_err(|_| TokenError::Malformed)?;
    if of == cluster { Ok(token) } else { Err(TokenError::OtherCluster) }
}

fn decode<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Read<(u32, T)> {
    let mut r = Reader(bytes);
    let (cluster, token) = (r.u32()?, read(&mut r)?);
    let checked = bytes.len().saturating_sub(r.0.len());
    let check = r.u16()?;
    r.finish()?;
    let found = xxh3_64(bytes.get(..checked).unwrap_or(&[])) as u16;
    if found == check { Ok((cluster, token)) } else { Err(crate::wire::Malformed) }
}

fn from_hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatacenterId, KeyspaceId};

    const TOKEN: Token = Token {
        group: GroupId {
            keyspace: KeyspaceId(0xdead_beef),
            generation: 0,
            partition: 3,
            datacenter: DatacenterId(1),
        },
        id: EntryId { epoch: 7, index: 1_000_000 },
    };

    #[test]
    fn a_token_comes_back_as_it_went() {
        let word = TOKEN.to_word(5);
        assert!(word.starts_with('1') && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(Token::parse(word.as_bytes(), 5), Ok(TOKEN));
        assert_eq!(Token::parse(word.as_bytes(), 6), Err(TokenError::OtherCluster));
    }

    #[test]
    fn what_is_no_token_is_told_so() {
        let word = TOKEN.to_word(5);
        for length in 0..word.len() {
            let cut = word.as_bytes().get(..length).unwrap_or(&[]);
            assert_eq!(Token::parse(cut, 5), Err(TokenError::Malformed), "{length}");
        }
        let mistyped = word.replace('d', "c");
        assert_eq!(Token::parse(mistyped.as_bytes(), 5), Err(TokenError::Malformed));
        let newer = format!("3{word}");
        assert_eq!(Token::parse(newer.as_bytes(), 5), Err(TokenError::NewerVersion));
        assert_eq!(Token::parse("1\u{e4}\u{f6}".as_bytes(), 5), Err(TokenError::Malformed));
        assert_eq!(Token::parse(b"hello", 5), Err(TokenError::Malformed));
    }
}

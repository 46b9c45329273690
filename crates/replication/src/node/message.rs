//! Messages between nodes that belong to no model: liveness, leadership, proxied commands.

use crate::command::Reply;
use crate::turn::{Asker, LastWrite};
use crate::wire::{Malformed, Read, Reader, Writer};
use crate::{GroupId, NodeId, Session};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// A group that the sender of a heartbeat leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    /// The group.
    pub group: GroupId,
    /// Its epoch.
    pub epoch: u64,
    /// Up to where it is committed; 0 while the leader does not know.
    pub commit: u64,
    /// The newest index of its log: a successor can tell how much it lacks.
    pub last: u64,
}

/// What a node says about a group in the answer to a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Confirmed {
    /// The group.
    pub group: GroupId,
    /// The answerer's epoch: equal to the heartbeat's, the leadership is confirmed; higher, it is
    /// over.
    pub epoch: u64,
}

/// A message that belongs to no model.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    /// From every node to every other at an interval, and from a leader to its followers when a
    /// read waits for a round: who is alive, and who leads what.
    Heartbeat {
        /// The sender's process.
        session: Session,
        /// Counts the sender's rounds.
        round: u64,
        /// A digest of the sender's keyspaces; nodes whose digests differ refuse each other.
        keyspaces: u64,
        /// What the sender leads.
        led: Vec<Led>,
    },
    /// The answer of a member of the groups.
    HeartbeatAnswer {
        /// The heartbeat's.
        round: u64,
        /// For each group of the heartbeat that the answerer is a member of.
        confirmed: Vec<Confirmed>,
    },
    /// A client's command, sent once. Executed only if its sequence is larger than every one that
    /// came from this sender before: a repeated or overtaken one is dropped, never executed late.
    Forward {
        /// The receiver's process that the sender has in mind.
        to: Session,
        /// The sender's process.
        from: Session,
        /// Counts what the sender forwards.
        sequence: u64,
        /// Rises when the sender has taken note of a [`Message::NotHere`] for this group.
        attempt: u64,
        /// Comes back with the answer.
        token: u64,
        /// The group it is for.
        group: GroupId,
        /// Who asked.
        asker: Option<Asker>,
        /// The command, as encoded by [`encode_arguments`].
        command: Cow<'a, [u8]>,
    },
    /// The reply to a forwarded command.
    Answer {
        /// The forwarder's process.
        to: Session,
        /// The forward's.
        token: u64,
        /// What to tell the client.
        reply: Reply<'a>,
        /// What the write has written.
        last_write: Option<LastWrite>,
    },
    /// The forwarded command was not executed and will not be, nor will any other of this group
    /// and attempt: the receiver cannot take it.
    NotHere {
        /// The forwarder's process.
        to: Session,
        /// The forward's.
        token: u64,
        /// The group.
        group: GroupId,
        /// The forward's.
        attempt: u64,
        /// Who leads, as far as the receiver knows, and since which epoch.
        leader: Option<(NodeId, u64)>,
    },
    /// What do you know of lost writes? See `lost_writes/message.rs`.
    AskLost {
        /// The receiver's process that the sender has in mind.
        to: Session,
        /// The sender's process.
        from: Session,
        /// Comes back with the answer.
        token: u64,
        /// A `Question`.
        question: Cow<'a, [u8]>,
    },
    /// The answer; what was asked to be forgotten is durably so.
    TellLost {
        /// The asker's process.
        to: Session,
        /// The question's.
        token: u64,
        /// An `Answer`.
        answer: Cow<'a, [u8]>,
    },
}

fn encode_last_write(last_write: Option<LastWrite>, w: &mut Writer<'_>) {
    match last_write {
        None => w.u8(0),
        Some(LastWrite::Entry { group, id }) => {
            w.u8(1);
            w.group(group);
            w.entry_id(id);
        }
        Some(LastWrite::Copies { acks, synced }) => {
            w.u8(2);
            w.u16(acks);
            w.bool(synced);
        }
    }
}

/// Encodes the arguments of a command.
pub fn encode_arguments(arguments: &crate::Arguments<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut w = Writer(&mut bytes);
    for argument in arguments.iter() {
        w.bytes(argument);
    }
    bytes
}

/// Finds the arguments of an encoded command: spans into the same bytes.
pub fn decode_arguments(command: &[u8]) -> Read<Vec<crate::Span>> {
    let mut spans = Vec::new();
    let mut r = Reader(command);
    while !r.is_empty() {
        let length = r.bytes()?.len();
        let start = command.len() - r.0.len() - length;
        let start = u32::try_from(start).map_err(|_| Malformed)?;
        spans.push(crate::Span { start, length: length as u32 });
    }
    Ok(spans)
}

impl<'a> Message<'a> {
    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Heartbeat { session, round, keyspaces, led } => {
                w.u8(0);
                w.session(*session);
                w.u64(*round);
                w.u64(*keyspaces);
                w.u32(led.len() as u32);
                for led in led {
                    w.group(led.group);
                    w.u64(led.epoch);
                    w.u64(led.commit);
                    w.u64(led.last);
                }
            }
            Message::HeartbeatAnswer { round, confirmed } => {
                w.u8(1);
                w.u64(*round);
                w.u32(confirmed.len() as u32);
                for confirmed in confirmed {
                    w.group(confirmed.group);
                    w.u64(confirmed.epoch);
                }
            }
            Message::Forward { to, from, sequence, attempt, token, group, asker, command } => {
                w.u8(2);
                w.session(*to);
                w.session(*from);
                w.u64(*sequence);
                w.u64(*attempt);
                w.u64(*token);
                w.group(*group);
                Asker::encode(asker.as_ref(), w);
                w.bytes(command);
            }
            Message::Answer { to, token, reply, last_write } => {
                w.u8(3);
                w.session(*to);
                w.u64(*token);
                reply.encode(w);
                encode_last_write(*last_write, w);
            }
            Message::NotHere { to, token, group, attempt, leader } => {
                w.u8(4);
                w.session(*to);
                w.u64(*token);
                w.group(*group);
                w.u64(*attempt);
                w.option_node(leader.map(|(node, _)| node));
                w.u64(leader.map_or(0, |(_, epoch)| epoch));
            }
            Message::AskLost { to, from, token, question } => {
                w.u8(5);
                w.session(*to);
                w.session(*from);
                w.u64(*token);
                w.bytes(question);
            }
            Message::TellLost { to, token, answer } => {
                w.u8(6);
                w.session(*to);
                w.u64(*token);
                w.bytes(answer);
            }
        }
    }

    /// Reads a message.
    pub fn decode(r: &mut Reader<'a>) -> Read<Message<'a>> {
        Ok(match r.u8()? {
            0 => {
                let (session, round, keyspaces) = (r.session()?, r.u64()?, r.u64()?);
                let mut led = Vec::new();
                for _ in 0..r.u32()? {
                    let (group, epoch) = (r.group()?, r.u64()?);
                    led.push(Led { group, epoch, commit: r.u64()?, last: r.u64()? });
                }
                Message::Heartbeat { session, round, keyspaces, led }
            }
            1 => {
                let round = r.u64()?;
                let mut confirmed = Vec::new();
                for _ in 0..r.u32()? {
                    confirmed.push(Confirmed { group: r.group()?, epoch: r.u64()? });
                }
                Message::HeartbeatAnswer { round, confirmed }
            }
            2 => Message::Forward {
                to: r.session()?,
                from: r.session()?,
                sequence: r.u64()?,
                attempt: r.u64()?,
                token: r.u64()?,
                group: r.group()?,
                asker: Asker::decode(r)?,
                command: Cow::Borrowed(r.bytes()?),
            },
            3 => Message::Answer {
                to: r.session()?,
                token: r.u64()?,
                reply: Reply::decode(r)?,
                last_write: match r.u8()? {
                    0 => None,
                    1 => Some(LastWrite::Entry { group: r.group()?, id: r.entry_id()? }),
                    2 => Some(LastWrite::Copies { acks: r.u16()?, synced: r.bool()? }),
                    _ => return Err(Malformed),
                },
            },
            4 => {
                let (to, token, group) = (r.session()?, r.u64()?, r.group()?);
                let (attempt, node, epoch) = (r.u64()?, r.option_node()?, r.u64()?);
                Message::NotHere { to, token, group, attempt, leader: node.map(|n| (n, epoch)) }
            }
            5 => Message::AskLost {
                to: r.session()?,
                from: r.session()?,
                token: r.u64()?,
                question: Cow::Borrowed(r.bytes()?),
            },
            6 => Message::TellLost {
                to: r.session()?,
                token: r.u64()?,
                answer: Cow::Borrowed(r.bytes()?),
            },
            _ => return Err(Malformed),
        })
    }
}

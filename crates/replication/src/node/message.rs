//! Messages between nodes that belong to no model: liveness, leadership, proxied commands.

use crate::node::LeaseTerm;
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
        /// Whatever the sender has forwarded to the receiver in batches up to this one is answered
        /// or given up: it is not to be carried out any more.
        settled: u64,
        /// The sender's process is to stop: nobody hands over to it.
        is_leaving: bool,
        /// What the sender leads.
        led: Vec<Led>,
    },
    /// The answer of a member of the groups.
    HeartbeatAnswer {
        /// The heartbeat's.
        round: u64,
        /// For each group of the heartbeat that the answerer is a member of.
        confirmed: Vec<Confirmed>,
        /// What the answerer promises by that.
        term: LeaseTerm,
    },
    /// Clients' commands, sent once. Executed only if the sequence is larger than every one that
    /// came from this sender before: what is repeated or overtaken is dropped, never executed late.
    Forward {
        /// The receiver's process that the sender has in mind.
        to: Session,
        /// The sender's process.
        from: Session,
        /// Counts what the sender forwards.
        sequence: u64,
        /// See [`crate::node::forward::batch::commands`].
        commands: Cow<'a, [u8]>,
    },
    /// The replies to forwarded commands.
    Answer {
        /// The forwarder's process.
        to: Session,
        /// See [`crate::node::forward::batch::answers`].
        answers: Cow<'a, [u8]>,
    },
    /// The forwarded command was not executed and will not be, nor will any other of this group
    /// and attempt: the receiver cannot take it.
    NotHere {
        /// The forwarder's process.
        to: Session,
        /// The forward's.
        token: u64,
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

/// Encodes the arguments of a command.
pub fn encode_arguments(arguments: &crate::Arguments<'_>, bytes: &mut Vec<u8>) {
    let mut w = Writer(bytes);
    for argument in arguments.iter() {
        w.bytes(argument);
    }
}

/// Finds the arguments of an encoded command: spans into the same bytes, in place of what was in
/// `spans` before.
pub fn decode_arguments(command: &[u8], spans: &mut Vec<crate::Span>) -> Read<()> {
    spans.clear();
    let mut r = Reader(command);
    while !r.is_empty() {
        let length = r.bytes()?.len();
        let start = command.len() - r.0.len() - length;
        let start = u32::try_from(start).map_err(|_| Malformed)?;
        spans.push(crate::Span { start, length: length as u32 });
    }
    Ok(())
}

impl<'a> Message<'a> {
    /// Writes the message.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Message::Heartbeat { session, round, keyspaces, settled, is_leaving, led } => {
                w.u8(0);
                w.session(*session);
                w.u64(*round);
                w.u64(*keyspaces);
                w.u64(*settled);
                w.bool(*is_leaving);
                w.u32(led.len() as u32);
                for led in led {
                    w.group(led.group);
                    w.u64(led.epoch);
                    w.u64(led.commit);
                    w.u64(led.last);
                }
            }
            Message::HeartbeatAnswer { round, confirmed, term } => {
                w.u8(1);
                w.u64(*round);
                w.u64(term.lease_us);
                w.u64(term.clock_drift_ppm);
                w.u32(confirmed.len() as u32);
                for confirmed in confirmed {
                    w.group(confirmed.group);
                    w.u64(confirmed.epoch);
                }
            }
            Message::Forward { to, from, sequence, commands } => {
                w.u8(2);
                w.session(*to);
                w.session(*from);
                w.u64(*sequence);
                w.bytes(commands);
            }
            Message::Answer { to, answers } => {
                w.u8(3);
                w.session(*to);
                w.bytes(answers);
            }
            Message::NotHere { to, token, leader } => {
                w.u8(4);
                w.session(*to);
                w.u64(*token);
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
                let (session, round) = (r.session()?, r.u64()?);
                let (keyspaces, settled, is_leaving) = (r.u64()?, r.u64()?, r.bool()?);
                let mut led = Vec::new();
                for _ in 0..r.u32()? {
                    let (group, epoch) = (r.group()?, r.u64()?);
                    led.push(Led { group, epoch, commit: r.u64()?, last: r.u64()? });
                }
                Message::Heartbeat { session, round, keyspaces, settled, is_leaving, led }
            }
            1 => {
                let round = r.u64()?;
                let term = LeaseTerm { lease_us: r.u64()?, clock_drift_ppm: r.u64()? };
                let mut confirmed = Vec::new();
                for _ in 0..r.u32()? {
                    confirmed.push(Confirmed { group: r.group()?, epoch: r.u64()? });
                }
                Message::HeartbeatAnswer { round, confirmed, term }
            }
            2 => Message::Forward {
                to: r.session()?,
                from: r.session()?,
                sequence: r.u64()?,
                commands: Cow::Borrowed(r.bytes()?),
            },
            3 => Message::Answer { to: r.session()?, answers: Cow::Borrowed(r.bytes()?) },
            4 => {
                let (to, token) = (r.session()?, r.u64()?);
                let (node, epoch) = (r.option_node()?, r.u64()?);
                Message::NotHere { to, token, leader: node.map(|node| (node, epoch)) }
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

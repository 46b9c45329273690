//! Values to bytes and back: the one encoding of log records and of messages between nodes.
//!
//! Little-endian, length-prefixed, without padding. Reading is total: whatever the bytes are, the
//! result is a value or [`Malformed`], and nothing is allocated by a length that was only claimed.

use crate::storage::record::{Increment, Record, Value};
use crate::version::{Dot, EntryId, Stamp, VersionVector};
use crate::{DatacenterId, GroupId, Incarnation, KeyspaceId, NodeId, Session};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The bytes are not what their writer can have written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("malformed bytes")
    }
}

/// The result of reading.
pub type Read<T> = Result<T, Malformed>;

/// Appends values to a buffer.
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// Several numbers of eight bytes each.
    fn u64s<const N: usize>(&mut self, values: [u64; N]) {
        self.0.extend_from_slice(values.map(u64::to_le_bytes).as_flattened());
    }
    /// A truth, as one byte.
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }
    /// A length of four bytes, then the bytes. Longer than 4 GiB is cut: no value is so long.
    pub fn bytes(&mut self, value: &[u8]) {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend_from_slice(value.get(..length as usize).unwrap_or(value));
    }
    /// A number in as few bytes as it needs: seven bits in each, the lowest first, and a bit that
    /// says whether more follow.
    #[inline]
    pub fn short(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }
    /// A length as [`Writer::short`] writes it, then the bytes.
    #[inline]
    pub fn short_bytes(&mut self, value: &[u8]) {
        self.short(value.len() as u64);
        self.0.extend_from_slice(value);
    }
    /// A presence byte, then the value.
    pub fn option_u64(&mut self, value: Option<u64>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.u64(value);
        }
    }
    /// A node, or none.
    pub fn option_node(&mut self, value: Option<NodeId>) {
        self.u16(value.map_or(u16::MAX, |node| node.0));
    }
    /// A process.
    pub fn session(&mut self, session: Session) {
        self.u64(session.incarnation.0);
        self.u64(session.boot);
    }
    /// A group's name.
    pub fn group(&mut self, group: GroupId) {
        self.u32(group.keyspace.0);
        self.u8(group.generation);
        self.u16(group.partition);
        self.u8(group.datacenter.0);
    }
    /// An entry's name.
    pub fn entry_id(&mut self, id: EntryId) {
        self.u64s([id.epoch, id.index]);
    }
    /// A write's name.
    pub fn dot(&mut self, dot: Dot) {
        self.u64s([dot.actor, dot.counter]);
    }
    /// A version vector, in actor order.
    pub fn vector(&mut self, vector: &VersionVector) {
        self.u32(vector.len() as u32);
        for (actor, counter) in vector.iter() {
            self.u64s([actor, counter]);
        }
    }
    /// A key's record.
    pub fn record(&mut self, record: &Record<'_>) {
        self.u64s([record.stamp.0, record.dot.actor, record.dot.counter]);
        match &record.value {
            Value::Absent => self.u8(0),
            Value::String(bytes) => {
                self.u8(1);
                self.bytes(bytes);
            }
        }
        self.u64(record.expiry_stamp.0);
        self.option_u64(record.expires_at_ms);
        self.u16(record.increments.len() as u16);
        for increment in &*record.increments {
            let Increment { actor, count, integer, float } = *increment;
            self.u64s([actor, count, integer as u64, float.to_bits()]);
        }
    }
}

/// Takes values from a buffer.
#[derive(Clone, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Nothing may be left.
    pub fn finish(&self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
    /// One byte.
    pub fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// A truth; a byte other than 0 and 1 is malformed.
    pub fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }
    /// A number as [`Writer::short`] has written it.
    #[inline]
    pub fn short(&mut self) -> Read<u64> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
    /// Bytes as [`Writer::short_bytes`] has written them.
    #[inline]
    pub fn short_bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.short()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
    /// A value that may be absent.
    pub fn option_u64(&mut self) -> Read<Option<u64>> {
        Ok(if self.bool()? { Some(self.u64()?) } else { None })
    }
    /// A node, or none.
    pub fn option_node(&mut self) -> Read<Option<NodeId>> {
        let number = self.u16()?;
        Ok((number != u16::MAX).then_some(NodeId(number)))
    }
    /// A node's number.
    pub fn node(&mut self) -> Read<NodeId> {
        Ok(NodeId(self.u16()?))
    }
    /// A disk's number.
    pub fn incarnation(&mut self) -> Read<Incarnation> {
        Ok(Incarnation(self.u64()?))
    }
    /// A process.
    pub fn session(&mut self) -> Read<Session> {
        Ok(Session { incarnation: self.incarnation()?, boot: self.u64()? })
    }
    /// A group's name.
    pub fn group(&mut self) -> Read<GroupId> {
        Ok(GroupId {
            keyspace: KeyspaceId(self.u32()?),
            generation: self.u8()?,
            partition: self.u16()?,
            datacenter: DatacenterId(self.u8()?),
        })
    }
    /// An entry's name.
    pub fn entry_id(&mut self) -> Read<EntryId> {
        Ok(EntryId { epoch: self.u64()?, index: self.u64()? })
    }
    /// A write's name.
    pub fn dot(&mut self) -> Read<Dot> {
        Ok(Dot { actor: self.u64()?, counter: self.u64()? })
    }
    /// A version vector.
    pub fn vector(&mut self) -> Read<VersionVector> {
        let mut vector = VersionVector::default();
        for _ in 0..self.u32()? {
            vector.advance(self.dot()?);
        }
        Ok(vector)
    }
    /// A key's record.
    pub fn record(&mut self) -> Read<Record<'a>> {
        let stamp = Stamp(self.u64()?);
        let dot = self.dot()?;
        let value = match self.u8()? {
            0 => Value::Absent,
            1 => Value::String(Cow::Borrowed(self.bytes()?)),
            _ => return Err(Malformed),
        };
        let expiry_stamp = Stamp(self.u64()?);
        let expires_at_ms = self.option_u64()?;
        let mut increments = Vec::new();
        for _ in 0..self.u16()? {
            increments.push(Increment {
                actor: self.u64()?,
                count: self.u64()?,
                integer: self.u64()? as i64,
                float: f64::from_bits(self.u64()?),
            });
        }
        let increments = Cow::Owned(increments);
        Ok(Record { stamp, dot, value, expiry_stamp, expires_at_ms, increments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_is_read_as_it_was_written_and_no_larger_one_is_taken() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            Writer(&mut bytes).short(number);
            assert_eq!(bytes.len() as u32, (u64::BITS - number.leading_zeros()).max(1).div_ceil(7));
            let mut r = Reader(&bytes);
            assert_eq!((r.short(), r.finish()), (Ok(number), Ok(())));
            assert_eq!(Reader(bytes.get(1..).unwrap_or(&[])).short().is_ok(), bytes.len() > 1);
        }
        assert_eq!(Reader(&[0xff; 11]).short(), Err(Malformed));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader(&beyond).short(), Err(Malformed));
    }
}

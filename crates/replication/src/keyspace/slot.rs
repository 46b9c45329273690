//! Redis's hash slots: which of the 16384 shares of the key space a key belongs to.

use super::SLOTS;

/// The hash slot of a key, exactly as in Redis Cluster (Redis Cluster specification, "Hash tags"):
/// CRC16 of the key modulo 16384. If the key has a `{` and, after the first of them, a `}` with at
/// least one byte in between, only the bytes between those two are hashed, so that keys with the
/// same tag share a slot.
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(tag_of(key).unwrap_or(key)) % SLOTS
}

/// What stands between the first `{` and the first `}` after it, if that is anything.
#[inline]
fn tag_of(key: &[u8]) -> Option<&[u8]> {
    if !may_have_brace(key) {
        return None;
    }
    let open = key.iter().position(|byte| *byte == b'{')?;
    let after = key.get(open + 1..)?;
    let close = after.iter().position(|byte| *byte == b'}')?;
    after.get(..close).filter(|tag| !tag.is_empty())
}

/// Whether a key can have a `{`, eight bytes at a look: most keys have none.
#[inline]
fn may_have_brace(key: &[u8]) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const BRACES: u64 = LOW * b'{' as u64;
    // The lowest byte that is zero is always found; what is found above it does not matter.
    let has_zero = |eight: u64| eight.wrapping_sub(LOW) & !eight & (LOW << 7) != 0;
    let (eights, rest) = key.as_chunks();
    eights.iter().any(|eight| has_zero(u64::from_le_bytes(*eight) ^ BRACES)) || rest.contains(&b'{')
}

/// CRC16 XMODEM: polynomial 0x1021, start 0, nothing reflected, nothing inverted. Eight bytes a
/// step: what each of them adds does not wait for the others.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let (eights, rest) = bytes.as_chunks();
    let crc = eights.iter().fold(0u16, |crc, [a, b, c, d, e, f, g, h]: &[u8; 8]| {
        let [high, low] = crc.to_be_bytes();
        let [of_a, of_b, of_c, of_d, of_e, of_f, of_g, of_h] = &TABLES;
        of_a[usize::from(a ^ high)]
            ^ of_b[usize::from(b ^ low)]
            ^ of_c[usize::from(*c)]
            ^ of_d[usize::from(*d)]
            ^ of_e[usize::from(*e)]
            ^ of_f[usize::from(*f)]
            ^ of_g[usize::from(*g)]
            ^ of_h[usize::from(*h)]
    });
    rest.iter().fold(crc, |crc, byte| {
        let place = (crc >> 8) as u8 ^ byte;
        (crc << 8) ^ TABLES[7][usize::from(place)]
    })
}

const POLYNOMIAL: u16 = 0x1021;

/// The CRC of each single byte with so many zero bytes behind it: seven in the first table, none
/// in the last.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        let mut table = 8;
        while table > 0 {
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
                bit += 1;
            }
            table -= 1;
            tables[table][byte] = crc;
            bit = 0;
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn known_slots_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"123456789"), 12739);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"bar"), 5061);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn eight_bytes_a_step_are_as_one() {
        let by_one = |bytes: &[u8]| {
            bytes.iter().fold(0, |crc: u16, byte| {
                (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
                    crc << 1 ^ if crc & 0x8000 != 0 { POLYNOMIAL } else { 0 }
                })
            })
        };
        let bytes: alloc::vec::Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(37)).collect();
        for length in 0..bytes.len() {
            let bytes = bytes.get(..length).unwrap_or_default();
            assert_eq!(crc16(bytes), by_one(bytes), "{length} bytes");
        }
    }

    #[test]
    fn a_brace_is_found_wherever_it_stands() {
        for length in 0..40 {
            assert!(!may_have_brace(&alloc::vec![b'|'; length]));
            for place in 0..length {
                let mut key = alloc::vec![b'z'; length];
                key[place] = b'{';
                assert!(may_have_brace(&key), "at {place} of {length}");
            }
        }
    }

    #[test]
    fn keys_with_the_same_tag_share_a_slot() {
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"a{foo}b{bar}c"), slot_of(b"foo"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    #[test]
    fn a_key_without_a_whole_tag_is_hashed_as_it_is() {
        for key in [&b"foo{}{bar}"[..], b"foo{bar", b"foo}bar{", b"{}", b"}{"] {
            assert_eq!(slot_of(key), crc16(key) % SLOTS);
        }
    }
}

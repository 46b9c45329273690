//! Redis's hash slots: which of the 16384 shares of the key space a key belongs to.

use super::SLOTS;

/// The hash slot of a key, exactly as in Redis Cluster (Redis Cluster specification, "Hash tags"):
/// CRC16 of the key modulo 16384. If the key has a `{` and, after the first of them, a `}` with at
/// least one byte in between, only the bytes between those two are hashed, so that keys with the
/// same tag share a slot.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    // Both loops are short, and this is asked several times for each command: words at a time.
    let (words, rest) = key.as_chunks::<8>();
    let has_open = words.iter().any(|word| has_byte(*word, b'{')) || rest.contains(&b'{');
    let hashed = if has_open { tag_of(key).unwrap_or(key) } else { key };
    crc16(hashed) % SLOTS
}

/// Whether one of eight bytes is this one (Hacker's Delight, "Find first 0-byte").
#[inline]
fn has_byte(word: [u8; 8], byte: u8) -> bool {
    let differs = u64::from_le_bytes(word) ^ u64::from_le_bytes([byte; 8]);
    let low = u64::from_le_bytes([0x01; 8]);
    differs.wrapping_sub(low) & !differs & (low << 7) != 0
}

/// What stands between the first `{` and the first `}` after it, if that is anything.
fn tag_of(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let after = key.get(open + 1..)?;
    let close = after.iter().position(|byte| *byte == b'}')?;
    after.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC16 XMODEM: polynomial 0x1021, start 0, nothing reflected, nothing inverted. Four bytes at a
/// time, as each byte alone would have to wait for the table's answer to the one before.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let crc = words.iter().fold(0u16, |crc, [first, second, third, fourth]| {
        let [high, low] = crc.to_be_bytes();
        TABLES[3][usize::from(first ^ high)]
            ^ TABLES[2][usize::from(second ^ low)]
            ^ TABLES[1][usize::from(*third)]
            ^ TABLES[0][usize::from(*fourth)]
    });
    rest.iter().fold(crc, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        (u16::from(low) << 8) ^ TABLES[0][usize::from(high ^ byte)]
    })
}

const POLYNOMIAL: u16 = 0x1021;

/// The CRC of each single byte with none, one, two, three zero bytes after it.
static TABLES: [[u16; 256]; 4] = {
    let mut tables = [[0u16; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut zeros = 0;
        while zeros < 4 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
                bit += 1;
            }
            tables[zeros][byte] = crc;
            zeros += 1;
        }
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_slots_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"123456789"), 12739);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"bar"), 5061);
        assert_eq!(slot_of(b""), 0);
    }

    /// By the definition: bit by bit.
    fn slow_crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
                if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 }
            })
        })
    }

    proptest::proptest! {
        #[test]
        fn words_at_a_time_come_to_the_same_as_bytes(
            key in proptest::collection::vec(
                proptest::prelude::prop_oneof![
                    proptest::prelude::any::<u8>(),
                    proptest::sample::select(&b"{}|z"[..]),
                ],
                0..40,
            )
        ) {
            let expected = slow_crc16(tag_of(&key).unwrap_or(&key)) % SLOTS;
            proptest::prop_assert_eq!(slot_of(&key), expected);
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

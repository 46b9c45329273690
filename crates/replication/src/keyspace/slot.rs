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
fn tag_of(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let after = key.get(open + 1..)?;
    let close = after.iter().position(|byte| *byte == b'}')?;
    after.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC16 XMODEM: polynomial 0x1021, start 0, nothing reflected, nothing inverted.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let place = (crc >> 8) as u8 ^ byte;
        (crc << 8) ^ TABLE[usize::from(place)]
    })
}

const POLYNOMIAL: u16 = 0x1021;

/// The CRC of each single byte.
const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
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

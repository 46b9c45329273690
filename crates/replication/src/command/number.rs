//! Numbers in arguments and values, as strictly as Redis reads them.

/// A whole number as Redis's `string2ll` reads it: no plus, no leading zeros, no spaces, no `-0`.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let magnitude = unsigned(digits)?;
    match (negative, magnitude) {
        (true, 0) => None,
        (true, _) => 0i64.checked_sub_unsigned(magnitude),
        (false, _) => i64::try_from(magnitude).ok(),
    }
}

/// A whole number without a sign and without leading zeros.
pub fn unsigned(digits: &[u8]) -> Option<u64> {
    match digits {
        [] => None,
        [b'0', _, ..] => None,
        _ => digits.iter().try_fold(0u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
            sum.checked_mul(10)?.checked_add(u64::from(digit))
        }),
    }
}

/// A number, with or without fraction and exponent; an infinity too, but not NaN.
pub fn float(bytes: &[u8]) -> Option<f64> {
    let number: f64 = core::str::from_utf8(bytes).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_strict() {
        assert_eq!(integer(b"0"), Some(0));
        assert_eq!(integer(b"-12"), Some(-12));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        let wrong: [&[u8]; 12] = [
            b"",
            b"-",
            b"-0",
            b"+1",
            b"01",
            b"-01",
            b" 1",
            b"1 ",
            b"1.0",
            b"0x1",
            b"9223372036854775808",
            b"-9223372036854775809",
        ];
        for bytes in wrong {
            assert_eq!(integer(bytes), None, "{bytes:?}");
        }
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b"18446744073709551616"), None);
    }

    #[test]
    fn numbers_have_fractions_and_exponents() {
        assert_eq!(float(b"3.0e3"), Some(3000.0));
        assert_eq!(float(b"-.5"), Some(-0.5));
        assert_eq!(float(b"inf"), Some(f64::INFINITY));
        for bytes in [b"" as &[u8], b" 1", b"1 ", b"nan", b"abc", b"1e", b"\xff"] {
            assert_eq!(float(bytes), None, "{bytes:?}");
        }
    }
}

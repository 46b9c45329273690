//! Fractional numbers as people write them: 0.1 + 0.2 is 0.3. Redis computes with 80-bit floats
//! and shows 17 decimals; this adds decimal fractions of up to 17 decimals exactly, and falls back
//! to 64-bit floats for what is too large or too small for that.

use crate::command::number;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Decimals that are kept, as in Redis.
const DECIMALS: usize = 17;
/// One, in units of the last decimal.
const ONE: i128 = 10i128.pow(DECIMALS as u32);

/// A number that increments are added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// In units of the 17th decimal; holds up to 1.7e21.
    Exact(i128),
    /// Anything else; may be infinite.
    Inexact(f64),
}

impl Number {
    /// Reads a stored value.
    pub(super) fn parse(bytes: &[u8]) -> Option<Number> {
        match exact(bytes) {
            Some(units) => Some(Number::Exact(units)),
            None => number::float(bytes).map(Number::of),
        }
    }

    /// The shortest decimal fraction that reads as this float.
    pub(super) fn of(float: f64) -> Number {
        match exact(float.to_string().as_bytes()) {
            Some(units) => Number::Exact(units),
            None => Number::Inexact(float),
        }
    }

    pub(super) fn whole(integer: i64) -> Number {
        Number::Exact(i128::from(integer) * ONE)
    }

    pub(super) fn plus(self, other: Number) -> Number {
        if let (Number::Exact(left), Number::Exact(right)) = (self, other)
            && let Some(sum) = left.checked_add(right)
        {
            return Number::Exact(sum);
        }
        Number::Inexact(self.to_float() + other.to_float())
    }

    pub(super) fn to_float(self) -> f64 {
        match self {
            // By way of the text: a float division would round twice.
            Number::Exact(_) => number::float(&self.text()).unwrap_or(0.0),
            Number::Inexact(float) => float,
        }
    }

    pub(super) fn is_finite(self) -> bool {
        match self {
            Number::Exact(_) => true,
            Number::Inexact(float) => float.is_finite(),
        }
    }

    /// Up to 17 decimals, no exponent, no zeros at the end.
    pub(super) fn text(self) -> Vec<u8> {
        let padded = match self {
            Number::Exact(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let (units, one) = (units.unsigned_abs(), ONE.unsigned_abs());
                format!("{sign}{}.{:0DECIMALS$}", units / one, units % one)
            }
            Number::Inexact(float) => format!("{float:.DECIMALS$}"),
        };
        trimmed(padded)
    }
}

fn trimmed(mut text: String) -> Vec<u8> {
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    if text == "-0" {
        text.remove(0);
    }
    text.into_bytes()
}

/// Digits with at most 17 decimals, in units of the last; nothing else.
fn exact(bytes: &[u8]) -> Option<i128> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    if whole.is_empty() || fraction.len() > DECIMALS {
        return None;
    }
    let zeros = core::iter::repeat_n(&b'0', DECIMALS - fraction.len());
    let mut units = 0i128;
    for byte in whole.iter().chain(fraction).chain(zeros) {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        units = units.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    Some(if negative { -units } else { units })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sum(left: &str, right: &str) -> String {
        let [left, right] = [left, right].map(|text| Number::parse(text.as_bytes()).unwrap());
        String::from_utf8(left.plus(right).text()).unwrap()
    }

    #[test]
    fn sums_are_what_people_expect() {
        assert_eq!(sum("10.5", "0.1"), "10.6");
        assert_eq!(sum("0.1", "0.2"), "0.3");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("-0.5", "0.5"), "0");
        assert_eq!(sum("-1.25", "1"), "-0.25");
        assert_eq!(sum("9007199254740993", "1"), "9007199254740994");
        assert_eq!(sum("1e300", "1e300").len(), 301);
        assert_eq!(sum("1e-30", "0"), "0");
        assert_eq!(sum("3.14", "-3.14"), "0");
        assert_eq!(sum("100", "200"), "300");
    }

    #[test]
    fn what_is_not_finite_says_so() {
        let huge = Number::of(f64::MAX);
        assert!(huge.is_finite() && !huge.plus(huge).is_finite());
        assert!(!Number::of(f64::NEG_INFINITY).plus(Number::of(1.0)).is_finite());
    }

    #[test]
    fn a_float_survives_the_way_through_a_decimal() {
        for float in [0.1, -2.5, 1e-17, 123456.789, 1e21, 5e-324, 1.7976931348623157e308] {
            assert_eq!(Number::of(float).to_float(), float);
        }
    }
}

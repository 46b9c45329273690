//! RESP, the protocol of Redis: requests to spans, replies to bytes.

pub mod encode;
pub mod parse;
#[cfg(test)]
mod parse_tests;

/// Which version of RESP a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The number that HELLO and CLIENT LIST use.
    pub fn number(self) -> i64 {
        match self {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        }
    }
}

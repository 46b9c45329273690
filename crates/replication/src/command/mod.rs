//! Arguments to commands, replies, and the words of errors. No framing: how they travel to a
//! client is the driver's business.

pub mod error;
pub mod glob;
pub mod number;
pub mod once;
pub mod parse;
pub mod reply;
pub mod table;
pub mod verb;

pub use once::OnceId;
pub use parse::{parse, plain};
pub use reply::Reply;
pub use table::{CommandInfo, Scope, all, find, scope};
pub use verb::{Action, Command, KeyCommand, Verb};

/// A piece of the buffer that the arguments point into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Where it starts.
    pub start: u32,
    /// How many bytes it has.
    pub length: u32,
}

/// The arguments of one command, its name first, borrowed from a read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Arguments<'a> {
    /// Arguments at `spans` of `bytes`; a span outside of them reads as empty.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Arguments<'a> {
        Arguments { bytes, spans }
    }

    /// How many there are, the name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at a place; the name is at 0.
    pub fn get(&self, place: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(place)?;
        let start = span.start as usize;
        Some(self.bytes.get(start..start + span.length as usize).unwrap_or(&[]))
    }

    /// All arguments from a place on.
    pub fn from(&self, place: usize) -> Arguments<'a> {
        Arguments { bytes: self.bytes, spans: self.spans.get(place..).unwrap_or(&[]) }
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let this = *self;
        (0..this.len()).filter_map(move |place| this.get(place))
    }
}

/// Equal when the arguments are, wherever they lie.
impl PartialEq for Arguments<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

//! What WAIT and WAITAOF have said about a write, and what was so.

/// An answer to WAIT or WAITAOF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waited {
    /// The write: its operation's place in the history.
    pub operation: usize,
    /// WAITAOF: whether the leader has it on disk.
    pub own: Option<u64>,
    /// How many followers have it.
    pub followers: u64,
    /// How many nodes had it when the answer came.
    pub holders: u64,
    /// Whether everybody who has ever led the group was one of them: then the leader that gave the
    /// answer was, too, and is no follower.
    pub leader_holds: bool,
    /// When the answer came.
    pub at_us: u64,
}

impl Waited {
    /// Of how many copies the answer speaks, those included that it must have counted without
    /// saying so.
    pub fn copies(&self) -> u64 {
        self.followers + self.own.unwrap_or(u64::from(self.leader_holds))
    }
}

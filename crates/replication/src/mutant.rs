//! Planted bugs. Without the feature `mutants` there are none, and every question is `false` at
//! compile time; the server refuses to compile with it.

/// One rule left out, to prove that the simulator's checkers see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutant {
    /// A follower acknowledges an entry before it is durable.
    AckBeforeDurable,
    /// A vote is given without being written down.
    VoteNotDurable,
    /// A follower cuts its log to what it knows to be committed when a new leader speaks.
    TruncateToCommit,
    /// Copies of an older epoch's entries are counted (Raft, figure 8).
    CountOlderEpochs,
    /// The last write wins by the wall clock alone, whatever it had seen.
    WallClockWins,
    /// One answer fewer than R is enough for a quorum read.
    ReadOneShort,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound,
    /// A multi-leader group applies an update as often as it arrives.
    ApplyTwice,
    /// A node with a wiped disk counts at once.
    WipedNodeCounts,
    /// The leader's own copy counts before it is durable.
    OwnCopyCountsEarly,
    /// Checkpoints and snapshots leave out what is remembered of commands for `TF.ONCE`.
    OnceForgottenInImages,
    /// A retry is answered before its first attempt is acknowledged.
    OnceAnsweredEarly,
    /// Pieces of different snapshots are put together.
    SnapshotsMix,
    /// Entries that are cut are not put aside.
    ReportForgotten,
    /// The acknowledgement watermark in the log is ahead of what was acknowledged.
    WatermarkTooHigh,
    /// `TF.OUTCOME` says of every index up to the commit index that it is committed.
    OutcomeByIndex,
    /// `degrade` lowers the acks to the leader's own copy.
    DegradeBelowCommit,
    /// Acks are lowered without a line in the degrade ledger.
    DegradeUnrecorded,
    /// A follower that has an entry counts as one that has applied it.
    ReceivedIsApplied,
    /// A lease is counted from when the answers come, and not from before the question.
    LeaseFromReceive,
    /// A follower forgets its promise with the epoch, and with its process.
    PromiseForgotten,
    /// A leader that hands over keeps its lease.
    LeaseKeptInTransfer,
    /// A lease is looked at with the clock that the read's input carries.
    LeaseCheckedEarly,
    /// A member that lost its last second in a power cut votes and acknowledges as if it had not.
    SuspectVotes,
}

/// Whether planted bugs are compiled in.
pub const COMPILED_IN: bool = cfg!(feature = "mutants");

/// Which bug is planted, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    #[cfg(feature = "mutants")]
    planted: Option<Mutant>,
}

impl Mutants {
    /// Plants one bug.
    #[cfg(feature = "mutants")]
    pub fn plant(mutant: Mutant) -> Mutants {
        Mutants { planted: Some(mutant) }
    }

    /// Whether this bug is planted.
    #[inline]
    pub fn is(self, _mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return self.planted == Some(_mutant);
        #[cfg(not(feature = "mutants"))]
        false
    }
}

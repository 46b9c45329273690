//! What is told of leaders that did not come back, against the truth: no acknowledged write goes
//! without a word, and where an upper bound is named it is one.

use super::Verdict;
use replication::GroupId;

/// A leadership that is over, with writes of clients that are in the log no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The group that it led.
    pub group: GroupId,
    /// Its epoch.
    pub epoch: u64,
    /// How many writes its leader had appended that are not in the present leader's log.
    pub lost: u64,
    /// How many of them were acknowledged.
    pub acknowledged: u64,
    /// What the present leader's log says of it, if that knows it at all.
    pub reign: Option<Reign>,
}

/// What a log says of a leadership that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reign {
    /// Its leader is said to have told for itself since.
    pub heard_out: bool,
    /// The next leadership was the same disk's: that one has cut nothing unseen.
    pub led_on: bool,
}

/// What a client is told of a leader that was not heard out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The group.
    pub group: GroupId,
    /// The epoch that the leader led.
    pub epoch: u64,
    /// The upper bound that is named.
    pub at_most: Option<u64>,
}

/// Checks what is told at some moment. Whether a leader that was heard out has told the truth,
/// `lost_write_report.rs` checks.
///
/// # Errors
/// The first leadership of which too little is told.
pub fn check(ends: &[End], told: &[Told]) -> Verdict {
    for end in ends {
        let of_it = |told: &&Told| (told.group, told.epoch) == (end.group, end.epoch);
        let word = told.iter().find(of_it);
        if let Some(at_most) = word.and_then(|word| word.at_most)
            && end.lost > at_most
        {
            return Err(format!("lost writes: {word:?} is too little: {end:?}"));
        }
        let has_told = end.reign.is_some_and(|reign| reign.heard_out || reign.led_on);
        if end.acknowledged > 0 && word.is_none() && !has_told {
            return Err(format!("lost writes: nobody tells of {end:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::fixtures::GROUP;

    #[test]
    fn an_acknowledged_write_goes_with_a_word_that_is_large_enough() {
        let group = GROUP;
        let reign = Reign { heard_out: false, led_on: false };
        let end = End { group, epoch: 3, lost: 8, acknowledged: 5, reign: Some(reign) };
        let told = |epoch, at_most| Told { group, epoch, at_most };
        assert!(check(&[end], &[told(3, Some(8))]).is_ok());
        assert!(check(&[end], &[told(3, None)]).is_ok());
        assert!(check(&[end], &[told(3, Some(7))]).is_err(), "no upper bound");
        assert!(check(&[end], &[told(2, Some(8))]).is_err(), "of another epoch");
        assert!(check(&[End { acknowledged: 0, ..end }], &[]).is_ok());
        let heard_out = Some(Reign { heard_out: true, ..reign });
        assert!(check(&[End { reign: heard_out, ..end }], &[]).is_ok());
        assert!(check(&[End { reign: None, ..end }], &[]).is_err(), "an epoch that nobody knows");
    }
}

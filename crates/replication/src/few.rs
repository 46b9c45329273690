//! A list that mostly has one element, and then needs no memory of its own.

use alloc::vec::{self, Vec};
use core::iter::Chain;
use core::ops::Deref;
use core::{option, slice};

/// One, or any number.
#[derive(Clone, Debug)]
pub enum Few<T> {
    /// One.
    One(T),
    /// Any number.
    Many(Vec<T>),
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::One(one) => slice::from_ref(one),
            Few::Many(many) => many,
        }
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Few<T>) -> bool {
        **self == **other
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(list: I) -> Few<T> {
        let mut list = list.into_iter();
        match (list.next(), list.next()) {
            (Some(one), None) => Few::One(one),
            (first, second) => Few::Many(first.into_iter().chain(second).chain(list).collect()),
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = Chain<option::IntoIter<T>, vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Few::One(one) => (Some(one), Vec::new()),
            Few::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_however_long_it_is() {
        for length in 0..4 {
            let all: Vec<usize> = (0..length).collect();
            let few: Few<usize> = all.iter().copied().collect();
            assert_eq!(matches!(few, Few::One(_)), length == 1);
            assert_eq!(*few, *all);
            assert_eq!(few.into_iter().collect::<Vec<_>>(), all);
        }
    }
}

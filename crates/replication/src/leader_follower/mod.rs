//! The leader_follower model.

pub mod message;

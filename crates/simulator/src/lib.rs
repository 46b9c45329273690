//! A whole cluster in one thread, from one number.
//!
//! Nodes are the real [`replication::Node`]; network, disks, clocks, clients and faults are
//! simulated ([`cluster`], [`network`], [`disk`], [`clock`], [`workload`], [`faults`]). What the
//! clients saw is a [`history`]; the [`checkers`] judge it. [`run`] plays one seed, [`script`] a
//! story that somebody wrote. What must happen [`sometimes`] is counted over sets of seeds.

pub mod checkers;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod convergence;
pub mod copies;
pub mod disk;
pub mod faults;
pub mod history;
pub mod judge;
pub mod leases;
pub mod limits;
pub mod lost_report;
pub mod network;
pub mod observe;
pub mod once;
pub mod options;
pub mod outcomes;
pub mod promises;
pub mod run;
pub mod script;
pub mod shown;
pub mod sometimes;
pub mod streams;
pub mod trace;
pub mod waits;
pub mod workload;

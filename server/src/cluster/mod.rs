//! The cluster as a noun: ids, members, versions.

pub mod id;

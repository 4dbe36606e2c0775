//! What [`publish`](super::publish) stands on, in one place: a test puts a model checker's in its stead.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, RwLock};

/// How many slots a cell has: a reader is sent round again only when the writer has filled so many while it looked.
pub(super) const SLOTS: usize = 8;

//! How the writer learns that nobody reads a frozen tree any more.
//!
//! What a reader has seen happens before the writer uses that memory again, because both take the lock. A model checker runs this
//! file through every interleaving: `tests/it/publishing.rs`.

use std::mem;
use std::sync::PoisonError;

use super::sync::Mutex;

/// Generations whose last reader is gone, in the order in which they went.
#[derive(Debug, Default)]
pub(crate) struct Released {
    list: Mutex<Vec<u64>>,
}

impl Released {
    /// The last reader of a generation is gone; for that reader.
    pub(crate) fn push(&self, generation: u64) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(generation);
    }

    /// Those that have gone since the last time; for the writer. `room` is a list whose memory may be used.
    pub(crate) fn take(&self, room: Vec<u64>) -> Vec<u64> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.is_empty() { room } else { mem::replace(&mut list, room) }
    }
}

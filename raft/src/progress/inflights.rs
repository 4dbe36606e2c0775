//! The window of append messages on their way to one follower.

use std::collections::VecDeque;

use crate::types::Index;

/// Appends sent and not yet acknowledged, bounded by number and by payload bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflights {
    max_messages: usize,
    /// 0: no limit. Soft: one message may pass it.
    max_bytes: u64,
    bytes: u64,
    /// (last index in the message, payload bytes), indexes rising.
    window: VecDeque<(Index, u64)>,
}

impl Inflights {
    /// An empty window.
    pub fn new(max_messages: usize, max_bytes: u64) -> Inflights {
        Inflights { max_messages, max_bytes, bytes: 0, window: VecDeque::new() }
    }

    /// Notes a message that ends with `last`. Sending past a full window is the caller's error; it is counted all the same.
    pub fn add(&mut self, last: Index, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.window.push_back((last, bytes));
    }

    /// Forgets the messages that end at or below `index`.
    pub fn free_up_to(&mut self, index: Index) {
        while let Some(&(last, bytes)) = self.window.front() {
            if last > index {
                break;
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            self.window.pop_front();
        }
    }

    /// No more may be sent now.
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.max_messages || (self.max_bytes != 0 && self.bytes >= self.max_bytes)
    }

    /// Messages in flight.
    pub fn count(&self) -> usize {
        self.window.len()
    }

    /// Payload bytes in flight.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }
}

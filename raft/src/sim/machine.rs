//! The user's state machine, and a plain one to start with.

use crate::types::{Entry, Index, Payload};

/// A state machine under simulation. A clone is its snapshot.
pub trait StateMachine: Clone {
    /// Applies one committed entry. A function of the state and the entry alone.
    fn apply(&mut self, entry: &Entry);

    /// Stands for the whole state: equal states give equal digests.
    fn digest(&self) -> u64;

    /// What must hold between entries; checked after each batch.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Hashes everything it is given, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    digest: u64,
    last: Index,
}

impl StateMachine for Journal {
    fn apply(&mut self, entry: &Entry) {
        self.last = entry.index;
        self.digest = hash(self.digest ^ entry.index);
        if let Payload::Normal(data) = &entry.payload {
            for byte in data {
                self.digest = hash(self.digest ^ u64::from(*byte));
            }
        }
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

/// One round of mixing.
pub(crate) fn hash(x: u64) -> u64 {
    let x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 29)
}

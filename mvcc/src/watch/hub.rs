//! The watch hub.

use crate::log::record::Change;

/// Hands committed changes to watchers.
#[derive(Debug)]
pub struct Hub {}

impl Hub {
    pub(crate) fn new(_revision: i64) -> Hub {
        Hub {}
    }

    pub(crate) fn publish(&self, _changes: Vec<Change>, _revision: i64, _compacted: i64) {}
}

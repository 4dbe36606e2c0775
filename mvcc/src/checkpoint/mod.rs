//! Checkpoints: index and tables on disk, so that a start replays only a short tail of the log.
//!
//! | file | lives there |
//! | --- | --- |
//! | `format` | chunks and what they hold |
//! | `write` | saving a frozen root, a slice at a time |
//! | `load` | reading it back |

pub(crate) mod format;
pub(crate) mod load;
mod write;

pub(crate) use write::Checkpoints;

/// The file's name in the store's directory.
pub(crate) const FILE: &str = "checkpoint";
/// Where it is written before it is renamed.
pub(crate) const TEMPORARY: &str = "checkpoint.tmp";

//! Watches: cursors over the log.
//!
//! | file | lives there |
//! | --- | --- |
//! | `hub` | how events get from commits and from the log to watchers |
//! | `window` | the newest changes, for live watchers |
//! | `groups` | all watchers, by how they are served |
//! | `stream` | the consumer's side |
//! | `watcher`, `slab` | one watcher and its queue; many of them |
//! | `range_set`, `singles` | which watchers want a key |
//! | `event` | one event, encoded once |

pub(crate) mod event;
mod groups;
pub(crate) mod hub;
pub(crate) mod range_set;
mod singles;
mod slab;
pub(crate) mod stream;
pub(crate) mod watcher;
mod window;

#[cfg(test)]
mod tests;

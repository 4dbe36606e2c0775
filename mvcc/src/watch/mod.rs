//! Watches: cursors over the log.
//!
//! | file | lives there |
//! | --- | --- |
//! | `hub` | all watchers, and how events get to them |
//! | `stream` | the consumer's side |
//! | `watcher` | one watcher and its queue |
//! | `range_set` | which watchers want a key |
//! | `event` | one event, encoded once |

pub(crate) mod event;
pub(crate) mod hub;
pub(crate) mod range_set;
pub(crate) mod stream;
pub(crate) mod watcher;

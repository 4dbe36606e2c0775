//! Watches: cursors over the log.

pub(crate) mod hub;

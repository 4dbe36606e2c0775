//! Spare files that several logs of a process share.

/// Spare files that several logs of a process share.
#[derive(Debug, Default)]
pub struct Pool;

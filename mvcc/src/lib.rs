//! A log-structured multi-version revision store with watches and checkpoints.

//! Behaviour of the log, on the simulated disk unless a test says otherwise.

mod basics;

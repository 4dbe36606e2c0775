//! The store's behaviour, in one binary.

mod histories;
mod history;
mod random;
mod watches;

//! Who watches what is applied. The core has no clock: whoever wants to know how long commands take brings one.

use bytes::Bytes;

use super::answer::Outcome;

/// Is told of each command, in order.
pub trait Observer: std::fmt::Debug + Send {
    /// A batch of commands begins.
    fn begin(&mut self);

    /// `command` was carried out or refused. The commit that follows the last one of a batch is on its account.
    fn applied(&mut self, command: &Bytes, outcome: &Outcome, is_last: bool);

    /// What was applied is committed.
    fn committed(&mut self);
}

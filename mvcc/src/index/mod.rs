//! The index: which keys there are, and the newest version of each.
//!
//! | file | lives there |
//! | --- | --- |
//! | `tree` | the ordered, counted, copy-on-write tree |
//! | `node`, `keys` | a node and its packed keys |
//! | `marks` | milestones in a key's history |
//! | `publish` | the cell readers take the root from |

mod keys;
pub(crate) mod marks;
mod node;
pub(crate) mod publish;
mod sync;
pub(crate) mod tree;

#[cfg(test)]
mod tests;

pub(crate) use node::{Entry, Head, Marks};
pub(crate) use tree::Tree;

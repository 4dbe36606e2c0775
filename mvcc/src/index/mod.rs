//! The index: which keys there are, and the newest version of each.
//!
//! | file | lives there |
//! | --- | --- |
//! | `tree`, `edit`, `iter`, `build` | the ordered, counted, copy-on-write tree: reading and freezing, changing, walking, building |
//! | `node`, `keys`, `entry` | a node, its packed keys, and what it says of one |
//! | `memory`, `pool`, `life`, `released` | the memory of a tree and all that was frozen from it: pieces, and when they may be used again |
//! | `marks` | milestones in a key's history |
//! | `publish` | the cell readers take the root from |

mod build;
mod edit;
mod entry;
mod iter;
mod keys;
mod life;
pub(crate) mod marks;
mod memory;
mod node;
mod pool;
pub(crate) mod publish;
mod released;
mod sync;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use build::Builder;
pub(crate) use entry::{Entry, Head, Marks};
pub(crate) use iter::{Iter, Run};
pub(crate) use tree::{Frozen, Tree};

//! The Maintenance service: one noun a file.

mod alarm;
mod defragment;
mod downgrade;
pub mod hash;
mod leader;
mod snapshot;
mod status;

pub use alarm::alarm;
pub use defragment::defragment;
pub(crate) use defragment::nothing_to_defragment;
pub use downgrade::downgrade;
pub use hash::{hash, hash_kv};
pub use leader::move_leader;
pub use snapshot::{SnapshotStream, snapshot};
pub use status::status;

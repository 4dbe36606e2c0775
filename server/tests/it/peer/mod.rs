//! Networks of members in one process, over real sockets.

mod hostile;
mod messages;
mod snapshots;
mod world;

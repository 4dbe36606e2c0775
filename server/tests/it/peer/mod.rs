//! Networks of members in one process, over real sockets.

mod messages;
mod world;

//! The real process is killed at random moments and must have lost nothing that it acknowledged.
//!
//! Writers own disjoint keys, so each knows exactly what must be in them; the one request that a kill leaves
//! unanswered may have happened or not, but not by half. Checked after each restart:
//!
//! * every key holds what its writer expects, with the acknowledged revision;
//! * every acknowledged write of the last life, and a sample of the older ones, can be read at its revision;
//! * the three keys of each transaction always change together;
//! * what a reader saw at a revision is still what that revision shows;
//! * no revision is ever given out twice, and raft's term grows with every life.
//!
//! `KETCH_KILLS` and `KETCH_SEED` make it longer and different:
//! `KETCH_KILLS=300 cargo test --release -p ketch-server --test it crash::kills -- --nocapture`

mod check;
mod damage;
mod history;
mod kills;
mod life;

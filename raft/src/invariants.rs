//! What must hold of one member after every step; checked in debug builds, tests and simulation, where a violation
//! is a [`Fault::Invariant`](crate::Fault). What must hold between members, the simulator checks.
//!
//! 1. `applied <= applying <= committed <= last_index`.
//! 2. Nothing is handed out for applying that is not durable here (unless configured otherwise).
//! 3. What is not durable is consecutive, its terms do not fall, and none is newer than the own term.
//! 4. A candidate and a leader voted for themselves; a leader knows itself as leader; nobody else claims to lead.
//! 5. A leader's view of a peer: `match < next`, and nothing matches that it does not hold itself.
//! 6. A leader counts its own log only as far as it is durable.
//! 7. A peer that waits for a snapshot has no appends in flight.
//! 8. The members in force obey the rules of [`membership`](crate::ConfState).
//! 9. At most one change of members can be pending: its index lies within the log.
//! 10. Only a leader counts uncommitted payload.
//! 11. Batches on their way are numbered upwards, and a snapshot being installed heads the persist lane.

use crate::config::ApplyTiming;
use crate::core::Core;
use crate::lanes::{Install, Lanes};
use crate::membership;
use crate::progress::ProgressState;
use crate::storage::Storage;
use crate::types::{NO_NODE, Role};

/// Longer tails are checked at their ends only.
const SCANNED: usize = 64;

/// Names the first invariant that does not hold.
pub(crate) fn check<S: Storage>(core: &Core<S>, lanes: &Lanes) -> Result<(), &'static str> {
    log(core)?;
    roles(core)?;
    if core.role == Role::Leader {
        leader(core)?;
    }
    if membership::check(&core.tracker).is_err() {
        return Err("the members in force contradict themselves");
    }
    in_order(lanes)
}

fn hold(holds: bool, which: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(which) }
}

fn log<S: Storage>(core: &Core<S>) -> Result<(), &'static str> {
    let log = &core.log;
    let unstable = &log.unstable;
    hold(log.applied <= log.applying, "applied passed what was handed out")?;
    hold(log.applying <= log.committed, "applying passed the commit index")?;
    hold(log.committed <= log.last_index(), "the commit index passed the log")?;
    if core.config.apply == ApplyTiming::AfterPersist {
        hold(
            log.applying < unstable.offset,
            "entries were handed out for applying before they were durable",
        )?;
    }
    hold(unstable.offset <= unstable.in_progress, "handed out less than is durable")?;
    hold(unstable.in_progress <= unstable.end(), "handed out more than there is")?;
    let Some((first, last)) = unstable.entries.first().zip(unstable.entries.last()) else { return Ok(()) };
    hold(
        first.index == unstable.offset && last.index + 1 == unstable.end(),
        "the log's end is not consecutive",
    )?;
    hold(last.term <= core.term, "an entry is newer than the own term")?;
    if unstable.entries.len() <= SCANNED {
        let ordered = unstable.entries.is_sorted_by(|a, b| a.term <= b.term && a.index + 1 == b.index);
        hold(ordered, "the log's end is not ordered")?;
    }
    Ok(())
}

fn roles<S: Storage>(core: &Core<S>) -> Result<(), &'static str> {
    match core.role {
        Role::Leader => {
            hold(core.leader == core.id, "a leader does not know itself as leader")?;
            hold(core.vote == core.id, "a leader did not vote for itself")
        }
        Role::Candidate => {
            hold(core.leader == NO_NODE, "a candidate follows somebody")?;
            hold(core.vote == core.id, "a candidate did not vote for itself")
        }
        Role::PreCandidate => hold(core.leader == NO_NODE, "a pre-candidate follows somebody"),
        Role::Follower => {
            hold(core.leader != core.id, "a follower follows itself")?;
            hold(core.uncommitted_bytes == 0, "a follower counts uncommitted payload")
        }
    }
}

fn leader<S: Storage>(core: &Core<S>) -> Result<(), &'static str> {
    let last = core.log.last_index();
    hold(core.pending_change_index <= last, "a pending change lies beyond the log")?;
    for (id, peer) in &core.tracker.peers {
        hold(peer.match_index < peer.next_index, "a peer matches beyond what was sent")?;
        hold(peer.match_index <= last, "a peer matches beyond the leader's log")?;
        if peer.state == ProgressState::Snapshot {
            hold(peer.inflights.count() == 0, "appends are in flight to a peer that waits for a snapshot")?;
        }
        if *id == core.id {
            let durable = core.log.persisted();
            hold(peer.match_index <= durable, "a leader counts its own log before it is durable")?;
        }
    }
    Ok(())
}

fn in_order(lanes: &Lanes) -> Result<(), &'static str> {
    hold(lanes.batches.iter().is_sorted_by(|a, b| a.number < b.number), "batches are out of order")?;
    hold(lanes.applying.iter().is_sorted_by(|a, b| a.number < b.number), "apply batches are out of order")?;
    if lanes.install != Install::None {
        let head = lanes.batches.front().is_some_and(|batch| batch.snapshot.is_some());
        hold(head, "a snapshot is installed that does not head the persist lane")?;
    }
    Ok(())
}

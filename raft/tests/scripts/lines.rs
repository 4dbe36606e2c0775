//! Events of the core as the log lines the scripts expect.

use ketch_raft::{EntryId, Event, NodeId, Progress, Refusal, Role, Term, VoteKind};

use crate::describe::{change, message_type, role};

const DEBUG: usize = 0;
const INFO: usize = 1;
const WARN: usize = 2;
const ERROR: usize = 3;

/// (level, text) of each line an event makes.
pub(crate) fn line(id: NodeId, term: Term, event: &Event) -> Option<(usize, String)> {
    election(id, term, event)
        .or_else(|| terms(id, term, event))
        .or_else(|| replication(id, term, event))
        .or_else(|| snapshots(id, event))
        .or_else(|| transfer(id, term, event))
        .or_else(|| proposals(id, term, event))
}

pub(crate) fn progress(progress: &Progress) -> String {
    format!("State{progress}")
}

fn kind(kind: VoteKind) -> &'static str {
    match kind {
        VoteKind::PreVote => "MsgPreVote",
        VoteKind::Vote => "MsgVote",
    }
}

fn election(id: NodeId, term: Term, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::Started { voters, commit, applied, last } => {
            let peers: Vec<String> = voters.iter().map(|voter| format!("{voter:x}")).collect();
            let (index, last_term) = (last.index, last.term);
            let peers = peers.join(",");
            (
                INFO,
                format!(
                    "newRaft {id:x} [peers: [{peers}], term: {term}, commit: {commit}, applied: {applied}, \
                     lastindex: {index}, lastterm: {last_term}]"
                ),
            )
        }
        Event::Became { role } => {
            let name = match role {
                Role::Follower => "follower",
                Role::PreCandidate => "pre-candidate",
                Role::Candidate => "candidate",
                Role::Leader => "leader",
            };
            (INFO, format!("{id:x} became {name} at term {term}"))
        }
        Event::ElectionStarting => (INFO, format!("{id:x} is starting a new election at term {term}")),
        Event::CampaignRefused { refusal } => match refusal {
            Refusal::AlreadyLeader => (DEBUG, format!("{id:x} ignoring MsgHup because already leader")),
            Refusal::NotPromotable => (WARN, format!("{id:x} is unpromotable and can not campaign")),
            _ => (
                WARN,
                format!(
                    "{id:x} cannot campaign at term {term} since there are still pending configuration changes to apply"
                ),
            ),
        },
        Event::VoteRequested { kind: vote, to, last } => {
            let EntryId { term: log_term, index } = last;
            let vote = kind(*vote);
            (
                INFO,
                format!(
                    "{id:x} [logterm: {log_term}, index: {index}] sent {vote} request to {to:x} at term {term}"
                ),
            )
        }
        Event::VoteReceived { kind: vote, from, granted } => {
            let rejection = if *granted { "" } else { " rejection" };
            (INFO, format!("{id:x} received {}Resp{rejection} from {from:x} at term {term}", kind(*vote)))
        }
        Event::VotesCounted { kind: vote, granted, refused } => (
            INFO,
            format!("{id:x} has received {granted} {}Resp votes and {refused} vote rejections", kind(*vote)),
        ),
        Event::VoteGranted { kind: vote, to, last, vote: own, theirs } => {
            (INFO, voted(id, term, "cast", kind(*vote), "for", *to, *last, *own, *theirs))
        }
        Event::VoteRefused { kind: vote, to, last, vote: own, theirs } => {
            (INFO, voted(id, term, "rejected", kind(*vote), "from", *to, *last, *own, *theirs))
        }
        Event::VoteIgnoredInLease { kind: vote, from, last, vote: own, theirs, remaining_ticks } => {
            let text = voted(id, term, "ignored", kind(*vote), "from", *from, *last, *own, *theirs);
            (INFO, format!("{text}: lease is not expired (remaining ticks: {remaining_ticks})"))
        }
        Event::QuorumLost => (WARN, format!("{id:x} stepped down to follower since quorum is not active")),
        _ => return None,
    })
}

#[expect(clippy::too_many_arguments, reason = "one sentence with that many words")]
fn voted(
    id: NodeId,
    term: Term,
    verb: &str,
    vote: &str,
    preposition: &str,
    peer: NodeId,
    last: EntryId,
    own: NodeId,
    theirs: EntryId,
) -> String {
    format!(
        "{id:x} [logterm: {}, index: {}, vote: {own:x}] {verb} {vote} {preposition} {peer:x} [logterm: {}, index: {}] at term {term}",
        last.term, last.index, theirs.term, theirs.index
    )
}

fn terms(id: NodeId, term: Term, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::HigherTerm { message } => (
            INFO,
            format!(
                "{id:x} [term: {term}] received a {} message with higher term from {:x} [term: {}]",
                message_type(&message.body),
                message.from,
                message.term
            ),
        ),
        Event::LowerTermIgnored { message } => (
            INFO,
            format!(
                "{id:x} [term: {term}] ignored a {} message with lower term from {:x} [term: {}]",
                message_type(&message.body),
                message.from,
                message.term
            ),
        ),
        Event::StaleStableIgnored { report_term } => (
            INFO,
            format!(
                "{id:x} [term: {term}] ignored entry appends from a MsgStorageAppendResp message with lower term [term: {report_term}]"
            ),
        ),
        Event::StableMismatch { reported, held } => {
            let EntryId { term, index } = reported;
            let text = match held {
                None => format!("entry at index {index} missing from unstable log; ignoring"),
                Some(0) => format!("entry at index {index} matched unstable snapshot; ignoring"),
                Some(held) => format!(
                    "entry at (index,term)=({index},{term}) mismatched with entry at ({index},{held}) in unstable log; ignoring"
                ),
            };
            (INFO, text)
        }
        Event::UnknownPeer { from } => (DEBUG, format!("{id:x} no progress available for {from:x}")),
        Event::LeaderForgotten { leader } => {
            (INFO, format!("{id:x} forgetting leader {leader:x} at term {term}"))
        }
        Event::ForgetRefused => (ERROR, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased".to_string()),
        _ => return None,
    })
}

fn replication(id: NodeId, _term: Term, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::AppendRejected { from, index, hint } => (
            DEBUG,
            format!(
                "{id:x} received MsgAppResp(rejected, hint: (index {}, term {})) from {from:x} for index {index}",
                hint.index, hint.term
            ),
        ),
        Event::AppendRefused { to, asked, held } => (
            DEBUG,
            format!(
                "{id:x} [logterm: {held}, index: {}] rejected MsgApp [logterm: {}, index: {}] from {to:x}",
                asked.index, asked.term, asked.index
            ),
        ),
        Event::ProgressDecreased { peer, progress: after } => {
            (DEBUG, format!("{id:x} decreased progress of {peer:x} to [{}]", progress(after)))
        }
        Event::Unreachable { peer, progress: after } => (
            DEBUG,
            format!(
                "{id:x} failed to send message to {peer:x} because it is unreachable [{}]",
                progress(after)
            ),
        ),
        Event::Conflict { index, existing, conflicting } => (
            INFO,
            format!(
                "found conflict at index {index} [existing term: {existing}, conflicting term: {conflicting}]"
            ),
        ),
        Event::UnstableReplaced { index, all: true } => {
            (INFO, format!("replace the unstable entries from index {index}"))
        }
        Event::UnstableReplaced { index, all: false } => {
            (INFO, format!("truncate the unstable entries before index {index}"))
        }
        _ => return None,
    })
}

fn snapshots(id: NodeId, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::SnapshotSkippedInactive { to } => {
            (DEBUG, format!("ignore sending snapshot to {to:x} since it is not recently active"))
        }
        Event::SnapshotUnavailable { to } => (
            DEBUG,
            format!("{id:x} failed to send snapshot to {to:x} because snapshot is temporarily unavailable"),
        ),
        Event::SnapshotSent { to, first_index, commit, snapshot, before, after } => {
            let EntryId { term, index } = snapshot;
            let sent = format!(
                "{id:x} [firstindex: {first_index}, commit: {commit}] sent snapshot[index: {index}, term: {term}] to {to:x} [{}]",
                progress(before)
            );
            let paused =
                format!("{id:x} paused sending replication messages to {to:x} [{}]", progress(after));
            (DEBUG, format!("{sent}\nDEBUG {paused}"))
        }
        Event::SnapshotRecovered { peer, progress: before } => (
            DEBUG,
            format!(
                "{id:x} recovered from needing snapshot, resumed sending replication messages to {peer:x} [{}]",
                progress(before)
            ),
        ),
        Event::SnapshotReported { peer, ok, progress: after } => {
            let outcome = if *ok { "succeeded" } else { "failed" };
            (
                DEBUG,
                format!(
                    "{id:x} snapshot {outcome}, resumed sending replication messages to {peer:x} [{}]",
                    progress(after)
                ),
            )
        }
        Event::SnapshotRestoring { log, snapshot } => (
            INFO,
            format!(
                "log [committed={}, applied={}, applying={}, unstable.offset={}, unstable.offsetInProgress={}, \
                 len(unstable.Entries)={}] starts to restore snapshot [index: {}, term: {}]",
                log.committed,
                log.applied,
                log.applying,
                log.unstable_offset,
                log.unstable_in_progress,
                log.unstable_len,
                snapshot.index,
                snapshot.term
            ),
        ),
        Event::SnapshotRestored { commit, last, snapshot } => {
            (INFO, on_snapshot(id, *commit, Some(*last), "restored snapshot", *snapshot))
        }
        Event::SnapshotFastForward { commit, last, snapshot } => {
            (INFO, on_snapshot(id, *commit, Some(*last), "fast-forwarded commit to snapshot", *snapshot))
        }
        Event::SnapshotAnswered { commit, snapshot, restored } => {
            let verb = if *restored { "restored snapshot" } else { "ignored snapshot" };
            (INFO, on_snapshot(id, *commit, None, verb, *snapshot))
        }
        Event::SnapshotForeign { members } => (
            WARN,
            format!(
                "{id:x} attempted to restore snapshot but it is not in the ConfState {members}; should never happen"
            ),
        ),
        _ => return None,
    })
}

fn on_snapshot(id: NodeId, commit: u64, last: Option<EntryId>, verb: &str, snapshot: EntryId) -> String {
    let last =
        last.map(|last| format!(", lastindex: {}, lastterm: {}", last.index, last.term)).unwrap_or_default();
    format!("{id:x} [commit: {commit}{last}] {verb} [index: {}, term: {}]", snapshot.index, snapshot.term)
}

fn transfer(id: NodeId, term: Term, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::TransferIgnored { refusal: Refusal::Learner { .. }, .. } => {
            (DEBUG, format!("{id:x} is learner. Ignored transferring leadership"))
        }
        Event::TransferIgnored { .. } => {
            (DEBUG, format!("{id:x} is already leader. Ignored transferring leadership to self"))
        }
        Event::TransferRepeated { to } => (
            INFO,
            format!(
                "{id:x} [term {term}] transfer leadership to {to:x} is in progress, ignores request to same node {to:x}"
            ),
        ),
        Event::TransferAborted { to } => {
            (INFO, format!("{id:x} [term {term}] abort previous transferring leadership to {to:x}"))
        }
        Event::TransferStarted { to } => {
            (INFO, format!("{id:x} [term {term}] starts to transfer leadership to {to:x}"))
        }
        Event::TimeoutNowSent { to, immediately: true } => (
            INFO,
            format!("{id:x} sends MsgTimeoutNow to {to:x} immediately as {to:x} already has up-to-date log"),
        ),
        Event::TimeoutNowSent { to, immediately: false } => {
            (INFO, format!("{id:x} sent MsgTimeoutNow to {to:x} after received MsgAppResp"))
        }
        Event::TimeoutNowReceived { from } => (
            INFO,
            format!(
                "{id:x} [term {term}] received MsgTimeoutNow from {from:x} and starts an election to get leadership."
            ),
        ),
        Event::TimeoutNowIgnored { from, role: state } => (
            DEBUG,
            format!("{id:x} [term {term} state {}] ignored MsgTimeoutNow from {from:x}", role(*state)),
        ),
        Event::NotForwarded { what } => {
            let what = if *what == "read_index" { "index reading msg" } else { "leader transfer msg" };
            (INFO, format!("{id:x} no leader at term {term}; dropping {what}"))
        }
        _ => return None,
    })
}

fn proposals(id: NodeId, term: Term, event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::ProposalRefused { refusal } => match refusal {
            Refusal::NoLeader { .. } => (INFO, format!("{id:x} no leader at term {term}; dropping proposal")),
            Refusal::ForwardingDisabled { leader } => (
                INFO,
                format!("{id:x} not forwarding to leader {leader:x} at term {term}; dropping proposal"),
            ),
            Refusal::Transferring { to } => (
                DEBUG,
                format!(
                    "{id:x} [term {term}] transfer leadership to {to:x} is in progress; dropping proposal"
                ),
            ),
            Refusal::TooMuchUncommitted { .. } => (
                WARN,
                format!(
                    "{id:x} appending new entries to log would exceed uncommitted entry size limit; dropping proposal"
                ),
            ),
            _ => return None,
        },
        Event::ChangeRefused { change: refused, members, refusal } => {
            let why = match refusal {
                Refusal::ConfChangePending { index, applied } => {
                    format!("possible unapplied conf change at index {index} (applied to {applied})")
                }
                Refusal::MustLeaveJoint => "must transition out of joint config first".to_string(),
                Refusal::NotJoint => "not in joint state; refusing empty conf change".to_string(),
                other => other.to_string(),
            };
            (INFO, format!("{id:x} ignoring conf change {} at config {members}: {why}", change(refused)))
        }
        Event::MembersSwitched { members } => (INFO, format!("{id:x} switched to configuration {members}")),
        Event::AutoLeave { members, refusal: None } => {
            (INFO, format!("initiating automatic transition out of joint configuration {members}"))
        }
        Event::AutoLeave { members, refusal: Some(_) } => (
            DEBUG,
            format!(
                "not initiating automatic transition out of joint configuration {members}: raft proposal dropped"
            ),
        ),
        _ => return None,
    })
}

//! The term gate, and the only match on role and message.

use crate::core::{Core, Halt, trace};
use crate::error::Fault;
use crate::message::{Body, Message};
use crate::planted::Bug;
use crate::storage::Storage;
use crate::trace::{Event, VoteKind};
use crate::types::{EntryId, Index, LIMIT, NO_NODE, NodeId, Role, Term};

impl<S: Storage> Core<S> {
    /// Takes one message, from a peer or (as a promise that came true) from this member itself.
    pub(crate) fn step(&mut self, message: Message) -> Result<(), Halt> {
        check(&message).map_err(Halt::Malformed)?;
        // Committed is committed in any term.
        if let Body::Vote { commit, .. }
        | Body::PreVote { commit, .. }
        | Body::VoteAnswer { commit, .. }
        | Body::PreVoteAnswer { commit, .. } = message.body
        {
            self.learn_commit(commit)?;
        }
        if !self.term_gate(&message)? {
            return Ok(());
        }
        let Message { from, to: _, term, body } = message;
        match body {
            Body::Vote { index, log_term, transfer, .. } => {
                let blind = transfer && self.bug(Bug::TransferToLagging);
                let theirs = EntryId { term: log_term, index };
                if !transfer && self.promised() && self.vote != from {
                    return Ok(self.ignore_in_lease(VoteKind::Vote, from, theirs)?);
                }
                return Ok(self.consider_vote(VoteKind::Vote, from, term, theirs, blind)?);
            }
            Body::PreVote { index, log_term, .. } => {
                let theirs = EntryId { term: log_term, index };
                if self.promised() {
                    return Ok(self.ignore_in_lease(VoteKind::PreVote, from, theirs)?);
                }
                return Ok(self.consider_vote(VoteKind::PreVote, from, term, theirs, false)?);
            }
            _ => {}
        }
        match self.role {
            Role::Follower => self.step_follower(from, body),
            Role::PreCandidate | Role::Candidate => self.step_candidate(from, body),
            Role::Leader => self.step_leader(from, body),
        }
    }

    /// Newer terms make a follower of anybody; older ones are turned away. False when the message ends here.
    fn term_gate(&mut self, message: &Message) -> Result<bool, Halt> {
        if message.term == 0 {
            return if matches!(message.body, Body::Propose { .. } | Body::ReadIndex { .. }) {
                Ok(true)
            } else {
                Err(Halt::Malformed("a message without a term"))
            };
        }
        if message.term > self.term {
            return Ok(self.higher_term(message)?);
        }
        if message.term < self.term {
            self.lower_term(message)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn higher_term(&mut self, message: &Message) -> Result<bool, Fault> {
        let vote = match message.body {
            Body::Vote { index, log_term, transfer, .. } => {
                Some((VoteKind::Vote, EntryId { term: log_term, index }, transfer))
            }
            Body::PreVote { index, log_term, .. } => {
                Some((VoteKind::PreVote, EntryId { term: log_term, index }, false))
            }
            _ => None,
        };
        if let Some((kind, theirs, false)) = vote
            && self.in_lease()
        {
            self.ignore_in_lease(kind, message.from, theirs)?;
            return Ok(false);
        }
        match message.body {
            // Never change the term for a question, nor for a yes to the own question.
            Body::PreVote { .. } if self.bug(Bug::PreVoteDisrupts) => {
                self.become_follower(message.term, NO_NODE);
            }
            Body::PreVote { .. } | Body::PreVoteAnswer { reject: false, .. } => {}
            _ => {
                trace!(self, Event::HigherTerm { message: message.clone() });
                let leads = matches!(
                    message.body,
                    Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. }
                );
                self.become_follower(message.term, if leads { message.from } else { NO_NODE });
            }
        }
        Ok(true)
    }

    /// A leader was heard of within an election timeout: no votes then (thesis, §6.2 and §4.2.3).
    pub(crate) fn in_lease(&self) -> bool {
        let ticks = self.config.election_ticks;
        let heard = self.config.check_quorum && self.leader != NO_NODE && self.election_elapsed < ticks;
        heard || self.promised()
    }

    /// Where reads rely on a leader's lease, the promise not to vote outlives its term, however this member comes
    /// to a newer one: it holds for votes of the own term as well.
    fn promised(&self) -> bool {
        self.lease_reads().is_some() && self.ticks < self.promised_until
    }

    fn ignore_in_lease(&mut self, kind: VoteKind, from: NodeId, theirs: EntryId) -> Result<(), Fault> {
        let last = self.log.last_id()?;
        trace!(
            self,
            Event::VoteIgnoredInLease {
                kind,
                from,
                last,
                vote: self.vote,
                theirs,
                remaining_ticks: self.config.election_ticks.saturating_sub(self.election_elapsed),
            }
        );
        Ok(())
    }

    fn lower_term(&mut self, message: &Message) -> Result<(), Fault> {
        let from_leader = matches!(message.body, Body::Append { .. } | Body::Heartbeat { .. });
        let answers = self.config.check_quorum || self.config.pre_vote || self.gathers();
        if from_leader && answers {
            // A leader of an older term must learn of this one (paper, §5.1; etcd answers only with the options), or this member could neither follow nor win:
            // others ignore its votes while they hear from that leader.
            self.send(message.from, Body::AppendAnswer { index: 0, rejection: None });
        } else if let Body::PreVote { index, log_term, .. } = message.body {
            let theirs = EntryId { term: log_term, index };
            self.refuse_lower_term(VoteKind::PreVote, message.from, theirs)?;
        } else if let Body::Vote { index, log_term, .. } = message.body
            && self.gathers()
        {
            // Told the newer term, the candidate need not get there one election at a time (paper, §5.1).
            let theirs = EntryId { term: log_term, index };
            self.refuse_lower_term(VoteKind::Vote, message.from, theirs)?;
        } else {
            trace!(self, Event::LowerTermIgnored { message: message.clone() });
        }
        Ok(())
    }

    fn refuse_lower_term(&mut self, kind: VoteKind, to: NodeId, theirs: EntryId) -> Result<(), Fault> {
        let last = self.log.last_id()?;
        trace!(self, Event::VoteRefused { kind, to, last, vote: self.vote, theirs });
        let (reject, commit) = (true, self.known_commit()?);
        let body = match kind {
            VoteKind::Vote => Body::VoteAnswer { reject, commit },
            VoteKind::PreVote => Body::PreVoteAnswer { reject, commit },
        };
        self.send(to, body);
        Ok(())
    }

    /// Grants a vote at most once a term, and only to a log at least as complete as the own (paper, §5.2, §5.4.1).
    /// Learners vote too when asked: they may have been promoted without knowing it yet.
    fn consider_vote(
        &mut self,
        kind: VoteKind,
        from: NodeId,
        term: Term,
        theirs: EntryId,
        blind: bool,
    ) -> Result<(), Fault> {
        let free = self.vote == from
            || (self.vote == NO_NODE && self.leader == NO_NODE)
            || (kind == VoteKind::PreVote && term > self.term);
        let last = self.log.last_id()?;
        let grant = free && (blind || self.log.is_up_to_date(theirs)?);
        let vote = self.vote;
        let commit = if grant { EntryId::default() } else { self.known_commit()? };
        // A grant carries the term asked about: a pre-vote's lies ahead of this member's own.
        let answer_term = if grant { term } else { self.term };
        let body = match kind {
            VoteKind::Vote => Body::VoteAnswer { reject: !grant, commit },
            VoteKind::PreVote => Body::PreVoteAnswer { reject: !grant, commit },
        };
        if grant {
            trace!(self, Event::VoteGranted { kind, to: from, last, vote, theirs });
        } else {
            trace!(self, Event::VoteRefused { kind, to: from, last, vote, theirs });
        }
        self.queue(Message { from: self.id, to: from, term: answer_term, body });
        if grant && kind == VoteKind::Vote {
            self.election_elapsed = 0;
            self.vote = from;
        }
        Ok(())
    }

    /// What candidates and those who refuse them tell each other.
    pub(crate) fn known_commit(&self) -> Result<EntryId, Fault> {
        let index = self.log.committed;
        Ok(self.log.term(index)?.map_or(EntryId::default(), |term| EntryId { term, index }))
    }

    /// An entry that a voter knows to be committed and that this log holds is committed.
    fn learn_commit(&mut self, commit: EntryId) -> Result<(), Fault> {
        if commit.index > self.log.committed && self.role != Role::Leader && self.log.matches(commit)? {
            self.log.commit_to(commit.index)?;
        }
        Ok(())
    }

    /// The batch that ended with `last` (and all before it) is durable. The report counts only in the term it was
    /// handed out in: otherwise a batch still on its way might overwrite what it names.
    pub(crate) fn stable(&mut self, term: Term, last: EntryId) {
        if term < self.term {
            trace!(self, Event::StaleStableIgnored { report_term: term });
            return;
        }
        if let crate::unstable::Stabilized::Mismatch(held) = self.log.unstable.stable_to(last) {
            trace!(self, Event::StableMismatch { reported: last, held });
        }
    }
}

/// What no honest member sends.
fn check(message: &Message) -> Result<(), &'static str> {
    let fits = |index: Index| index <= LIMIT;
    if !fits(message.term) || message.from == NO_NODE {
        return Err("sender or term out of range");
    }
    let ok = match &message.body {
        Body::Append { index, log_term, entries, commit } => {
            if !fits(*index) || !fits(*commit) {
                return Err("an index out of range");
            }
            return check_run(message.term, EntryId { term: *log_term, index: *index }, entries);
        }
        Body::AppendAnswer { index, rejection } => {
            fits(*index) && rejection.is_none_or(|rejection| fits(rejection.hint) && fits(rejection.log_term))
        }
        Body::Vote { index, log_term, commit, .. } | Body::PreVote { index, log_term, commit } => {
            fits(*index) && fits(*log_term) && fits(commit.index)
        }
        Body::VoteAnswer { commit, .. } | Body::PreVoteAnswer { commit, .. } => {
            fits(commit.index) && fits(commit.term)
        }
        Body::Heartbeat { commit, .. } => fits(*commit),
        Body::Snapshot { meta } => fits(meta.index) && meta.term <= message.term,
        Body::Propose { entries } => !entries.is_empty(),
        Body::ReadIndexAnswer { index, .. } => fits(*index),
        _ => true,
    };
    if ok { Ok(()) } else { Err("a field out of range") }
}

/// Entries follow `before` one by one, terms never fall and none is newer than the leader.
fn check_run(leader_term: Term, before: EntryId, entries: &[crate::Entry]) -> Result<(), &'static str> {
    let mut before = before;
    for entry in entries {
        if entry.index != before.index + 1 || entry.term < before.term {
            return Err("entries do not follow each other");
        }
        before = entry.id();
    }
    if before.term > leader_term { Err("an entry newer than its leader") } else { Ok(()) }
}

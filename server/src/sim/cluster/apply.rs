//! The applier of a simulated member, and what is checked whenever it has applied something.

use bytes::Bytes;
use ketch_mvcc::{Query, TableId};
use ketch_raft::{Apply, ConfChange, ConfChangeKind, Entry, Payload};

use super::ask::{self, Ask, Seen, Told};
use super::planted::Bug;
use super::queue::What;
use super::world::World;
use crate::apply::answer::ApplyError;
use crate::apply::cluster::{TABLE_ALARMS, TABLE_CLUSTER, TABLE_MEMBERS, TABLE_MEMBERS_REMOVED};
use crate::apply::command::{self, RequestId};
use crate::apply::core::Answered;
use crate::consensus::core::{Applied, Input};

/// The value from which on the planted local flag makes a difference, in bytes.
const FLAGGED_BYTES: usize = 500;
/// Where planted bugs write what makes their batches differ from empty ones.
pub(super) const TABLE_OF_BUGS: TableId = TableId(99);

impl World {
    /// Applies `jobs` as one batch of the store. False when the member stopped.
    pub(super) fn apply(&mut self, at: usize, jobs: Vec<Apply>) -> Result<bool, String> {
        let mut answers = Vec::new();
        let mut inputs = Vec::new();
        for mut job in jobs {
            if job.snapshot.is_some() && !self.install(at, &job)? {
                return Ok(false);
            }
            self.note_entries(at, &job.entries)?;
            self.tamper(at, &mut job.entries);
            self.applied_first(at, &job.entries);
            let Some(live) = &mut self.nodes[at].live else { return Ok(false) };
            let mut conf_changes = Vec::new();
            if let Err(fault) = live.applier.apply(job.entries, &mut answers, &mut conf_changes) {
                self.stopped(at, &fault.to_string())?;
                return Ok(false);
            }
            let index = live.applier.applied_index();
            self.change_again(at, &mut conf_changes);
            let (token, snapshot) = (job.token, job.snapshot);
            inputs.push(Input::Applied(Applied { token, index, conf_changes, snapshot }));
        }
        let Some(live) = &mut self.nodes[at].live else { return Ok(false) };
        if let Err(fault) = live.applier.commit() {
            self.stopped(at, &fault.to_string())?;
            return Ok(false);
        }
        let index = live.applier.applied_index();
        let id = self.nodes[at].id;
        self.note(index, || format!("{id:x} has applied {index}"));
        if !self.compare_state(at)? {
            return Ok(false);
        }
        for answered in answers {
            self.check_answer(at, &answered)?;
        }
        inputs.into_iter().for_each(|input| self.input(at, input));
        self.watchers.learn(&mut self.truth);
        Ok(true)
    }

    /// Everybody applies the same entries in the same order.
    fn note_entries(&mut self, at: usize, entries: &[Entry]) -> Result<(), String> {
        let node = &mut self.nodes[at];
        let Some(live) = &node.live else { return Ok(()) };
        let applied = live.applier.applied_index();
        for entry in entries.iter().filter(|entry| entry.index > applied) {
            let new = self.truth.note(entry).map_err(|what| format!("member {:x}: {what}", node.id))?;
            self.stats.committed += u64::from(new);
            if let Payload::Normal(command) = &entry.payload {
                node.last_command = Some(command.clone());
            }
        }
        self.mind_members();
        Ok(())
    }

    /// With a bug planted: the applied index is saved, then the data.
    fn applied_first(&mut self, at: usize, entries: &[Entry]) {
        let bug = self.options.planted;
        let Some(live) = &mut self.nodes[at].live else { return };
        if bug == Some(Bug::SnapshotMissesLastBatch) {
            live.older = Some(live.applier.pin());
        }
        let Some(last) = entries.last().filter(|_| bug == Some(Bug::AppliedIndexApartFromData)) else {
            return;
        };
        let store = live.applier.store_mut();
        store.table_put(TABLE_OF_BUGS, Bytes::from_static(b"applied"), Bytes::new());
        let _wrong_anyway = store.commit(ketch_mvcc::Applied { index: last.index, term: last.term });
    }

    /// With a bug planted: the first batch after a restart brings an old change of members with it.
    fn change_again(&mut self, at: usize, conf_changes: &mut Vec<ConfChange>) {
        if self.options.planted != Some(Bug::ConfChangeAppliedTwice) {
            return;
        }
        let node = &mut self.nodes[at];
        let Some(live) = &mut node.live else { return };
        if live.boot > 1 && !std::mem::replace(&mut live.resumed, true) {
            conf_changes.extend(node.last_change.clone());
        }
        let learner =
            |change: &&ConfChange| change.changes.iter().all(|one| one.kind == ConfChangeKind::AddLearner);
        node.last_change = conf_changes.iter().find(learner).cloned().or(node.last_change.take());
    }

    /// What planted bugs make of entries.
    fn tamper(&self, at: usize, entries: &mut [Entry]) {
        let bug = self.options.planted;
        if at != 0 || !matches!(bug, Some(Bug::AlarmLost | Bug::ApplyReadsLocalFlag)) {
            return;
        }
        for entry in entries {
            let Payload::Normal(data) = &entry.payload else { continue };
            let Ok((_, request)) = command::decode(data) else { continue };
            let alarm = request.alarm.is_some();
            let large = request.put.as_ref().is_some_and(|put| put.value.len() > FLAGGED_BYTES);
            if (bug == Some(Bug::AlarmLost) && alarm) || (bug == Some(Bug::ApplyReadsLocalFlag) && large) {
                entry.payload = Payload::Normal(Bytes::new());
            }
        }
    }

    /// At the same applied index all members have the same state. False when the member stopped.
    pub(super) fn compare_state(&mut self, at: usize) -> Result<bool, String> {
        let node = &self.nodes[at];
        let Some(live) = &node.live else { return Ok(false) };
        let store = live.applier.store();
        let index = store.applied().index;
        let hash = match store.reader().view().hash(0) {
            Ok(hash) => hash.hash,
            Err(error) => {
                self.stopped(at, &format!("its state cannot be hashed: {error}"))?;
                return Ok(false);
            }
        };
        let mut digest = hash ^ store.compacted() as u64;
        for table in [TABLE_MEMBERS, TABLE_MEMBERS_REMOVED, TABLE_CLUSTER, TABLE_ALARMS] {
            for (key, value) in store.table(table).iter() {
                let pair = ask::digest(key) ^ ask::digest(value).rotate_left(17);
                digest = digest.rotate_left(5) ^ pair ^ u64::from(table.0);
            }
        }
        let (id, state) = (node.id, (store.revision(), digest));
        self.trace.mix(digest);
        match self.states.insert(index, state) {
            Some(other) if other != state => Err(format!(
                "state: {id:x} at applied index {index} is at revision {} with hash {:x}, another member was at {} with {:x}",
                state.0, state.1, other.0, other.1
            )),
            Some(_) => {
                self.stats.states_compared += 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// An answer is what the reference expects, and goes to him who asked.
    fn check_answer(&mut self, at: usize, answered: &Answered) -> Result<(), String> {
        let Answered { id, outcome } = answered;
        let told = ask::told(outcome)?;
        let Some((content, expected)) = self.truth.outcome(*id) else {
            return Err(format!("{id:?} is answered and was never committed"));
        };
        if *expected != told {
            return Err(format!("{id:?} is answered {told:?}, right is {expected:?}"));
        }
        let content = *content;
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let Some(operation) = live.waiters.remove(&id.serial) else { return Ok(()) };
        if self.clients.content(operation).is_some_and(|asked| asked != content) {
            return Err(format!("{id:?}: somebody is given the answer to another request"));
        }
        self.reply(operation, told);
        Ok(())
    }

    /// A client's answer leaves.
    pub(super) fn reply(&mut self, operation: u64, told: Told) {
        let us = self.up_to(self.options.delay_us);
        self.after(us, What::Answer(operation, Box::new(told)));
    }

    /// Answers the reads whose index is applied.
    pub(super) fn serve_reads(&mut self, at: usize) -> Result<(), String> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let applied = live.applier.store().applied().index;
        let ready: Vec<u64> = live
            .reads
            .extract_if(.., |(index, _)| *index <= applied)
            .map(|(_, operation)| operation)
            .collect();
        for operation in ready {
            if let Some(ask) = self.clients.ask(operation) {
                self.read(at, operation, &ask)?;
            }
        }
        Ok(())
    }

    /// Reads from the published store, and checks what it sees.
    pub(super) fn read(&mut self, at: usize, operation: u64, ask: &Ask) -> Result<(), String> {
        let Ask::Get { key, revision, .. } = ask else { return Ok(()) };
        let node = &self.nodes[at];
        let Some(live) = &node.live else { return Ok(()) };
        let view = live.applier.store().reader().view();
        let wanted = if *revision > 0 { *revision } else { view.revision() };
        if *revision > 0 && (*revision < view.compacted() || *revision > view.revision()) {
            let refusal =
                if *revision > view.revision() { ApplyError::FutureRevision } else { ApplyError::Compacted };
            self.reply(operation, Told::Refused(refusal));
            return Ok(());
        }
        if view.revision() > self.truth.revision() {
            return Err(format!("a read on {:x} saw the future: revision {}", node.id, view.revision()));
        }
        let query = Query { revision: *revision, ..Query::new(ask::range(key)) };
        let found = match ask::pairs(&view, &query) {
            Ok(found) => found,
            Err(why) => return self.stopped(at, &format!("a read failed: {why}")),
        };
        let right = self.truth.pairs(key, wanted);
        if found != right {
            return Err(format!(
                "a read on {:x} at revision {wanted} saw {found:?}, right is {right:?}",
                node.id
            ));
        }
        self.stats.past_reads += u64::from(*revision > 0);
        self.stats.reads_behind += u64::from(view.revision() < self.truth.revision());
        self.reply(operation, Told::Done(view.revision(), Seen::Pairs(found)));
        Ok(())
    }

    /// What a planted bug does after a restart: the last command takes effect once more.
    pub(super) fn apply_again(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (Some(data), Some(live)) = (&node.last_command, &mut node.live) else { return };
        let Ok((_, request)) = command::decode(data) else { return };
        if let Some(put) = request.put {
            let applied = live.applier.store().applied();
            let store = live.applier.store_mut();
            let _wrong_anyway = store.txn().put(&put.key, &put.value, 0);
            let _wrong_anyway = store.commit(applied);
        }
    }

    /// The next request's id.
    pub(super) fn next_id(&mut self, at: usize) -> RequestId {
        let again = self.options.planted == Some(Bug::RequestIdsStartAgain);
        let id = self.nodes[at].id;
        let Some(live) = &mut self.nodes[at].live else { return RequestId::new(id, 0, 0) };
        live.counter += 1;
        RequestId::new(id, if again { 1 } else { live.boot }, live.counter)
    }
}

//! The apply core of a member: the only writer of its store.
//!
//! It takes committed entries in order and gives back answers and membership changes; it has no clock, no
//! randomness and no I/O of its own (the store writes its batches through the `Disk` seam). Applying is a
//! function of (state, command): flags, sizes and clocks were consulted when the command was proposed.

use std::sync::Arc;

use ketch_mvcc::{Applied, Fault, Store, View, WriteError};
use ketch_proto::etcdserverpb::{AlarmMember, InternalRaftRequest};
use ketch_raft::{ConfChange, Entry, Payload, SnapshotMeta};

use super::alarm::Alarms;
use super::answer::{Answer, Outcome};
use super::cluster::Cluster;
use super::command::{self, RequestId};
use super::downgrade::Downgrade;
use super::hashes::CompactionHashes;
use super::observe::Observer;
use super::size::BUNCH_BYTES_MAX;
use super::tally::Tally;
use super::{kv, txn};
use crate::staging::{Pinned, Staging};

/// Why applying cannot go on. It stops the member before anything else is acknowledged.
#[derive(Debug)]
pub enum ApplyFault {
    /// The store failed.
    Store(Fault),
    /// An entry that this version does not understand, or that contradicts the state.
    Entry {
        /// The entry's index.
        index: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Entries did not arrive in order.
    Gap {
        /// The index applied last.
        applied: u64,
        /// The index that came.
        index: u64,
    },
}

impl std::fmt::Display for ApplyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(fault) => write!(f, "the store failed: {fault}"),
            Self::Entry { index, why } => write!(f, "the entry at index {index} cannot be applied: {why}"),
            Self::Gap { applied, index } => {
                write!(f, "the entry at index {index} came after the one at {applied}: some are missing")
            }
        }
    }
}

impl std::error::Error for ApplyFault {}

/// What a command may write is measured before it is applied, so a refusal by the store itself is none of its answers.
impl From<WriteError> for ApplyFault {
    fn from(error: WriteError) -> Self {
        Self::Store(error.into())
    }
}

impl From<Fault> for ApplyFault {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

/// An answer with the request that it belongs to.
#[derive(Debug)]
pub struct Answered {
    /// The request, as the member that proposed it names it.
    pub id: RequestId,
    /// What became of it.
    pub outcome: Outcome,
}

/// The apply core; see the module's documentation.
#[derive(Debug)]
pub struct ApplyCore {
    member: u64,
    store: Store,
    cluster: Cluster,
    alarms: Alarms,
    cluster_changed: bool,
    applied: Applied,
    /// What was applied since the last commit, in bytes of commands and tombstones.
    bunch_bytes: u64,
    tally: Tally,
    hashes: Arc<CompactionHashes>,
    observer: Option<Box<dyn Observer>>,
}

impl ApplyCore {
    /// An apply core of `member` over its store.
    ///
    /// # Errors
    /// What in the store's tables does not decode, in words.
    pub fn new(member: u64, store: Store) -> Result<ApplyCore, String> {
        let cluster = Cluster::load(&store)?;
        let alarms = Alarms::load(&store)?;
        let applied = store.applied();
        let tally = Tally::default();
        Ok(ApplyCore {
            member,
            store,
            cluster,
            alarms,
            cluster_changed: true,
            applied,
            bunch_bytes: 0,
            tally,
            hashes: Arc::default(),
            observer: None,
        })
    }

    /// Tells `observer` of each command from now on.
    #[must_use]
    pub fn observed_by(self, observer: Box<dyn Observer>) -> ApplyCore {
        ApplyCore { observer: Some(observer), ..self }
    }

    /// The store, to read.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store, for its background duties.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The cluster as of the last applied entry.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether the cluster or its alarms changed since this was asked last.
    pub fn take_cluster_changed(&mut self) -> bool {
        std::mem::take(&mut self.cluster_changed)
    }

    /// The hashes of the last compactions.
    #[must_use]
    pub fn hashes(&self) -> &Arc<CompactionHashes> {
        &self.hashes
    }

    /// What was applied since this was asked last.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The index of the last entry applied, committed or not.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied.index
    }

    /// The alarms that are raised, in order.
    #[must_use]
    pub fn alarms(&self) -> Vec<AlarmMember> {
        self.alarms.members()
    }

    /// Applies `entries`, in order. What they do becomes visible with [`commit`](Self::commit), or earlier between two
    /// entries if they weigh much.
    ///
    /// # Errors
    /// A fault: the member must stop.
    pub fn apply(
        &mut self,
        entries: Vec<Entry>,
        answers: &mut Vec<Answered>,
        conf_changes: &mut Vec<ConfChange>,
    ) -> Result<(), ApplyFault> {
        if let Some(observer) = &mut self.observer {
            observer.begin();
        }
        let mut entries = entries.into_iter().peekable();
        while let Some(entry) = entries.next() {
            if entry.index <= self.applied.index {
                // Only after a restart: the store is ahead of what raft remembers as applied.
                continue;
            }
            if entry.index != self.applied.index + 1 {
                return Err(ApplyFault::Gap { applied: self.applied.index, index: entry.index });
            }
            self.apply_entry(&entry, entries.peek().is_none(), answers, conf_changes)?;
            self.applied = Applied { index: entry.index, term: entry.term };
            self.bunch_bytes += entry.wire_bytes();
            if self.bunch_bytes > BUNCH_BYTES_MAX {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// Makes everything applied since the last commit one atomic batch of the store, and publishes it.
    ///
    /// # Errors
    /// A fault of the store: the member must stop.
    pub fn commit(&mut self) -> Result<Applied, ApplyFault> {
        self.bunch_bytes = 0;
        self.store.commit(self.applied)?;
        if let Some(observer) = &mut self.observer {
            observer.committed();
        }
        Ok(self.applied)
    }

    /// A view of everything applied so far.
    fn published(&mut self) -> Result<View, ApplyFault> {
        self.commit()?;
        Ok(self.store.reader().view())
    }

    /// Pins what is committed, for peers that need a snapshot. Entries that changed nothing may be missing at its end: the
    /// view says up to where it is.
    #[must_use]
    pub fn pin(&self) -> Pinned {
        let view = self.store.reader().view();
        let Applied { index, term } = view.applied();
        let conf_state = self.cluster.conf_state.clone();
        Pinned { meta: SnapshotMeta { index, term, conf_state }, view }
    }

    /// Replaces the whole state by the staged snapshot `meta`.
    ///
    /// # Errors
    /// A snapshot that is not staged, or a fault of the store: the member must stop.
    pub fn install(&mut self, meta: &SnapshotMeta, staging: &Staging) -> Result<(), String> {
        self.commit().map_err(|fault| fault.to_string())?;
        let staged = staging.install(meta).map_err(|error| error.to_string())?;
        let staged = staged.ok_or_else(|| format!("the snapshot at entry {} is not staged", meta.index))?;
        self.store.adopt(staged).map_err(|fault| fault.to_string())?;
        staging.taken_over();
        self.hashes.clear();
        self.cluster = Cluster::load(&self.store)?;
        self.alarms = Alarms::load(&self.store)?;
        self.applied = self.store.applied();
        self.cluster_changed = true;
        Ok(())
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        is_last: bool,
        answers: &mut Vec<Answered>,
        conf_changes: &mut Vec<ConfChange>,
    ) -> Result<(), ApplyFault> {
        let refuse = |why| ApplyFault::Entry { index: entry.index, why };
        match &entry.payload {
            Payload::Normal(command) if command.is_empty() => Ok(()),
            Payload::Normal(command) => {
                let (id, request) = command::decode(command).map_err(refuse)?;
                let wanted = id.is_some_and(|id| id.member == self.member);
                let before = request.compaction.as_ref().map(|_| self.published()).transpose()?;
                let outcome = self.dispatch(&request, wanted)?.map_err(refuse)?;
                if let (Some(compaction), Some(view), Ok(_)) = (&request.compaction, before, &outcome) {
                    self.hashes.compacting(compaction.revision, view);
                }
                self.tally.add(&request, &outcome);
                if let Some(observer) = &mut self.observer {
                    observer.applied(command, &outcome, is_last);
                }
                self.bunch_bytes += outcome.as_ref().map_or(0, Answer::tombstone_bytes);
                answers.extend(id.filter(|_| wanted).map(|id| Answered { id, outcome }));
                Ok(())
            }
            Payload::ConfChange(change) => {
                let (id, verdict) = self.cluster.change(&mut self.store, change).map_err(refuse)?;
                if verdict.is_ok() {
                    self.cluster_changed = true;
                    conf_changes.push(change.clone());
                }
                let members = || Answer::Members(self.cluster.members.values().cloned().collect());
                let wanted = id.filter(|id| id.member == self.member);
                answers.extend(wanted.map(|id| Answered { id, outcome: verdict.map(|()| members()) }));
                Ok(())
            }
        }
    }

    /// One command. The inner error names a command that this version does not know.
    fn dispatch(
        &mut self,
        request: &InternalRaftRequest,
        wanted: bool,
    ) -> Result<Result<Outcome, String>, Fault> {
        if let Err(refusal) = self.alarms.check(request) {
            return Ok(Ok(Err(refusal)));
        }
        let store = &mut self.store;
        let outcome = if let Some(put) = &request.put {
            kv::put(store, put, wanted)?
        } else if let Some(delete) = &request.delete_range {
            kv::delete(store, delete, wanted)?
        } else if let Some(transaction) = &request.txn {
            txn::apply(store, transaction, wanted)?
        } else if let Some(compaction) = &request.compaction {
            kv::compact(store, compaction.revision)?
        } else if let Some(alarm) = &request.alarm {
            self.cluster_changed = true;
            match self.alarms.apply(store, alarm) {
                Ok(found) => Ok(Answer::Alarm(found)),
                Err(why) => return Ok(Err(why)),
            }
        } else if let Some(attributes) = &request.cluster_member_attr_set {
            self.cluster.set_attributes(store, attributes);
            self.cluster_changed = true;
            Ok(Answer::Done)
        } else if let Some(version) = &request.cluster_version_set {
            self.cluster.set_version(store, &version.ver);
            self.cluster_changed = true;
            Ok(Answer::Done)
        } else if let Some(job) = &request.downgrade_info_set {
            self.cluster.downgrade = Downgrade::set(store, job);
            self.cluster_changed = true;
            Ok(Answer::Done)
        } else {
            return Ok(Err("it holds no command that this version knows".into()));
        };
        Ok(Ok(outcome))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use ketch_proto::etcdserverpb::PutRequest;
    use ketch_wal::SimDisk;

    use super::*;
    use crate::caller::Caller;

    fn put(counter: u64, put: PutRequest) -> Entry {
        let request = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
        Entry::normal(1, counter, command::encode(RequestId::new(1, 1, counter), &Caller::default(), request))
    }

    /// Notes what it is told.
    #[derive(Debug, Clone, Default)]
    struct Notes(Arc<std::sync::Mutex<Vec<String>>>);

    impl Notes {
        fn add(&self, note: String) {
            self.0.lock().unwrap().push(note);
        }
    }

    impl Observer for Notes {
        fn begin(&mut self) {
            self.add("begin".into());
        }

        fn applied(&mut self, command: &Bytes, outcome: &Outcome, is_last: bool) {
            let (id, _) = command::decode(command).unwrap();
            let counter = id.unwrap().serial & 0xff;
            self.add(format!("{counter} went well: {}, the last: {is_last}", outcome.is_ok()));
        }

        fn committed(&mut self) {
            self.add("committed".into());
        }
    }

    #[test]
    fn each_command_of_a_batch_is_told_of() {
        let store = Store::open(SimDisk::new(1), Path::new("/s"), ketch_mvcc::Options::default()).unwrap();
        let notes = Notes::default();
        let mut core = ApplyCore::new(1, store).unwrap().observed_by(Box::new(notes.clone()));
        let fine = PutRequest { key: "k".into(), ..PutRequest::default() };
        let refused = PutRequest { key: "none".into(), ignore_value: true, ..PutRequest::default() };
        let batch = vec![put(1, fine.clone()), put(2, refused), put(3, fine)];
        core.apply(batch, &mut Vec::new(), &mut Vec::new()).unwrap();
        core.commit().unwrap();
        let expected = [
            "begin",
            "1 went well: true, the last: false",
            "2 went well: false, the last: false",
            "3 went well: true, the last: true",
            "committed",
        ];
        assert_eq!(*notes.0.lock().unwrap(), expected);
    }

    #[test]
    fn a_pinned_view_is_announced_with_the_entry_it_ends_with() {
        let store = Store::open(SimDisk::new(1), Path::new("/s"), ketch_mvcc::Options::default()).unwrap();
        let mut core = ApplyCore::new(1, store).unwrap();
        let first = put(1, PutRequest { key: "k".into(), ..PutRequest::default() });
        // The second one changes nothing: the store knows of it, the view that readers take does not yet.
        let entries = vec![first, Entry::normal(1, 2, Bytes::new())];
        for entry in entries {
            core.apply(vec![entry], &mut Vec::new(), &mut Vec::new()).unwrap();
            core.commit().unwrap();
        }
        let pinned = core.pin();
        assert_eq!(core.store().applied().index, 2);
        assert_eq!((pinned.meta.index, pinned.meta.term), (1, 1));
        assert_eq!(pinned.view.applied(), Applied { index: 1, term: 1 });
    }
}

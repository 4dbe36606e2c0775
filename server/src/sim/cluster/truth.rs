//! The reference: what committed commands do, computed a second time in the plainest way.
//!
//! The first member to apply an entry tells it here; every other one must apply the same. From the entries alone the
//! reference knows each revision's events and each key's history, so every answer, every read at whatever revision and
//! every watch can be checked against it, on whatever member it was.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_proto::etcdserverpb::{
    AlarmRequest, AlarmType, Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, TxnRequest,
    alarm_request::AlarmAction, compare::TargetUnion, request_op::Request,
};
use ketch_proto::mvccpb::{Event, KeyValue, event::EventType};
use ketch_raft::{ConfChange, Entry, Payload};

use super::admin::Change;
use super::ask::{self, Seen, Told};
use super::members::Members;
use crate::apply::answer::ApplyError;
use crate::apply::command::{self, RequestId};
use crate::cluster::Context;
use crate::consensus::conf_change;

/// What all members must agree on.
#[derive(Debug)]
pub(super) struct Truth {
    /// Term and content of each applied entry; index 1 first.
    entries: Vec<(u64, u64)>,
    revision: i64,
    compacted: i64,
    /// Every version of every key: its revision, and the pair unless it is a tombstone.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// The changes of each revision.
    events: BTreeMap<i64, Vec<Event>>,
    /// The command that made each revision, by content.
    commands: BTreeMap<i64, u64>,
    /// How often each put's content was applied.
    times: BTreeMap<u64, u32>,
    /// What each request was to be told, with the content of its command.
    outcomes: BTreeMap<RequestId, (u64, Told)>,
    full: bool,
    members: Members,
    /// Revisions that are complete but whose events nobody has fetched yet.
    untold: Vec<i64>,
}

impl Default for Truth {
    fn default() -> Truth {
        Truth {
            entries: Vec::new(),
            revision: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            commands: BTreeMap::new(),
            times: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            full: false,
            members: Members::default(),
            untold: Vec::new(),
        }
    }
}

impl Truth {
    /// A member applies `entry`. True when nobody had applied it before.
    ///
    /// # Errors
    /// Somebody applied another one there, or a command takes effect a second time.
    pub(super) fn note(&mut self, entry: &Entry) -> Result<bool, String> {
        let content = match &entry.payload {
            Payload::Normal(data) => ask::digest(data),
            Payload::ConfChange(change) => ask::digest(&conf_change::encode(change)),
        };
        let new = (entry.term, content);
        match self.entries.get((entry.index as usize).wrapping_sub(1)) {
            Some(old) if *old == new => return Ok(false),
            Some(old) => {
                return Err(format!(
                    "entry {} of term {} is applied, others applied one of term {} there",
                    entry.index, entry.term, old.0
                ));
            }
            None if entry.index as usize == self.entries.len() + 1 => self.entries.push(new),
            None => return Err(format!("entry {} is applied before those before it", entry.index)),
        }
        match &entry.payload {
            Payload::Normal(data) if data.is_empty() => {}
            Payload::Normal(data) => {
                let (id, request) = command::decode(data)?;
                self.carry_out(id, &request)?;
            }
            Payload::ConfChange(change) => self.change_members(change)?,
        }
        Ok(true)
    }

    /// The index of the last entry that anybody applied.
    #[must_use]
    pub(super) fn applied(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The newest revision.
    #[must_use]
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// What request `id` was to be told, and the content of its command; `None` if it is not committed.
    #[must_use]
    pub(super) fn outcome(&self, id: RequestId) -> Option<&(u64, Told)> {
        self.outcomes.get(&id)
    }

    /// The content of the command that made `revision`.
    #[must_use]
    pub(super) fn made_by(&self, revision: i64) -> Option<u64> {
        self.commands.get(&revision).copied()
    }

    /// How often a command of this content changed something.
    #[must_use]
    pub(super) fn times(&self, content: u64) -> u32 {
        self.times.get(&content).copied().unwrap_or(0)
    }

    /// The key-values of a key, or of all if it is empty, as of `revision`.
    #[must_use]
    pub(super) fn pairs(&self, key: &Bytes, revision: i64) -> Vec<KeyValue> {
        let at = |history: &Vec<(i64, Option<KeyValue>)>| {
            let after = history.partition_point(|(made, _)| *made <= revision);
            after.checked_sub(1).and_then(|newest| history[newest].1.clone())
        };
        if key.is_empty() {
            self.keys.values().filter_map(at).collect()
        } else {
            self.keys.get(key).and_then(at).into_iter().collect()
        }
    }

    /// The events of the revisions that were made since the last call.
    pub(super) fn take_untold(&mut self) -> Vec<(i64, Vec<Event>)> {
        let untold = std::mem::take(&mut self.untold);
        untold.into_iter().map(|at| (at, self.events.get(&at).cloned().unwrap_or_default())).collect()
    }

    /// Who is a member.
    #[must_use]
    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    fn change_members(&mut self, change: &ConfChange) -> Result<(), String> {
        let context = Context::from_json(&change.context).map_err(|error| error.to_string())?;
        let told = self.members.change(change, &context)?;
        if let (Some(id), Some(asked)) = (context.request, Change::of(change, &context)) {
            self.outcomes.insert(id, (asked.content(), told));
        }
        Ok(())
    }

    fn carry_out(&mut self, id: Option<RequestId>, request: &InternalRaftRequest) -> Result<(), String> {
        let content = ask::content(request);
        let before = self.revision;
        let told = self.outcome_of(request)?;
        if self.revision > before {
            self.commands.insert(self.revision, content);
            self.untold.push(self.revision);
            let times = self.times.entry(content).or_insert(0);
            *times += 1;
            if *times > 1 && request.delete_range.is_none() {
                return Err(format!("a command took effect twice, again at revision {}", self.revision));
            }
        }
        if let Some(id) = id {
            self.outcomes.insert(id, (content, told));
        }
        Ok(())
    }

    fn outcome_of(&mut self, request: &InternalRaftRequest) -> Result<Told, String> {
        let grows = request.put.is_some() || request.txn.is_some();
        if self.full && grows {
            return Ok(Told::Refused(ApplyError::NoSpace));
        }
        let next = self.revision + 1;
        if let Some(put) = &request.put {
            self.put(put, next);
            return Ok(Told::Done(self.revision, Seen::Nothing));
        }
        if let Some(delete) = &request.delete_range {
            let deleted = self.delete(delete, next);
            return Ok(Told::Done(self.revision, Seen::Deleted(deleted)));
        }
        if let Some(txn) = &request.txn {
            return Ok(self.txn(txn, next));
        }
        if let Some(compaction) = &request.compaction {
            return Ok(self.compact(compaction.revision));
        }
        if let Some(alarm) = &request.alarm {
            return self.alarm(*alarm);
        }
        Ok(Told::Done(0, Seen::Nothing))
    }

    fn put(&mut self, put: &PutRequest, at: i64) {
        let before = self.newest(&put.key);
        let kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: before.as_ref().map_or(at, |before| before.create_revision),
            mod_revision: at,
            version: before.as_ref().map_or(1, |before| before.version + 1),
            lease: put.lease,
        };
        self.change(at, kv.key.clone(), Some(kv.clone()));
        self.tell(at, EventType::Put, kv, before);
    }

    fn delete(&mut self, delete: &DeleteRangeRequest, at: i64) -> i64 {
        let Some(before) = self.newest(&delete.key) else { return 0 };
        self.change(at, delete.key.clone(), None);
        let kv = KeyValue { key: delete.key.clone(), mod_revision: at, ..KeyValue::default() };
        self.tell(at, EventType::Delete, kv, Some(before));
        1
    }

    fn txn(&mut self, txn: &TxnRequest, at: i64) -> Told {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if holds { &txn.success } else { &txn.failure };
        let mut reads = Vec::new();
        for op in branch {
            match &op.request {
                Some(Request::RequestPut(put)) => self.put(put, at),
                Some(Request::RequestDeleteRange(delete)) => _ = self.delete(delete, at),
                Some(Request::RequestRange(range)) => {
                    reads.push(self.newest(&range.key).into_iter().collect());
                }
                _ => {}
            }
        }
        Told::Done(self.revision, Seen::Branch(holds, reads))
    }

    /// Clients compare versions, and always by less.
    fn holds(&self, compare: &Compare) -> bool {
        let version = self.newest(&compare.key).map_or(0, |kv| kv.version);
        matches!(compare.target_union, Some(TargetUnion::Version(bound)) if version < bound)
    }

    fn compact(&mut self, revision: i64) -> Told {
        if revision <= self.compacted {
            return Told::Refused(ApplyError::Compacted);
        }
        if revision > self.revision {
            return Told::Refused(ApplyError::FutureRevision);
        }
        self.compacted = revision;
        Told::Done(self.revision, Seen::Nothing)
    }

    fn alarm(&mut self, alarm: AlarmRequest) -> Result<Told, String> {
        if alarm.alarm != AlarmType::Nospace as i32 {
            return Err(format!("nobody asks for {alarm:?}"));
        }
        let raise = alarm.action == AlarmAction::Activate as i32;
        let was = std::mem::replace(&mut self.full, raise);
        Ok(Told::Done(0, Seen::Alarms(usize::from(raise || was))))
    }

    fn newest(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys.get(key)?.last()?.1.clone()
    }

    fn change(&mut self, at: i64, key: Bytes, pair: Option<KeyValue>) {
        self.revision = at;
        self.keys.entry(key).or_default().push((at, pair));
    }

    fn tell(&mut self, at: i64, kind: EventType, kv: KeyValue, before: Option<KeyValue>) {
        let event = Event { r#type: kind as i32, kv: Some(kv), prev_kv: before };
        self.events.entry(at).or_default().push(event);
    }
}

//! What a member has promised, and whether it keeps it.
//!
//! Checked after every start and at the end: each acknowledged write is there at its exact revision, no
//! revision was given twice, the store is never behind what was acknowledged, and a linearizable read sees at
//! least what was acknowledged before it was asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Query, Store};

use super::{Member, Report};
use crate::apply::answer::{Answer, ApplyError, OpAnswer, Outcome};
use crate::apply::cluster::TABLE_ALARMS;
use crate::apply::command::RequestId;

/// One change that a command makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Removes a key, if it is there.
    Delete(Bytes),
}

/// What a command is meant to do.
#[derive(Debug, Clone)]
pub enum Intent {
    /// These writes, in one revision.
    Writes(Vec<Write>),
    /// The first or the second writes, as the comparison decides.
    Either(Vec<Write>, Vec<Write>),
    /// A compaction.
    Compact(i64),
    /// The alarm `NOSPACE` is raised or lowered.
    Alarm(bool),
}

/// What is known of the writes so far.
#[derive(Debug, Default)]
pub struct History {
    open: BTreeMap<u64, Intent>,
    /// Acknowledged writes by revision.
    acknowledged: BTreeMap<i64, Vec<Write>>,
    /// The highest revision that any answer named.
    seen: i64,
    compacted: i64,
    alarm: AlarmKnown,
    reads: BTreeMap<u64, i64>,
}

/// Whether the alarm `NOSPACE` is raised, as far as the answers tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AlarmKnown {
    #[default]
    Lowered,
    Raised,
    /// A crash left a change of it open.
    Unknown,
}

impl AlarmKnown {
    fn is(raised: bool) -> AlarmKnown {
        if raised { AlarmKnown::Raised } else { AlarmKnown::Lowered }
    }
}

impl History {
    /// How many commands wait for their answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// A command was proposed.
    pub fn proposed(&mut self, id: RequestId, intent: Intent) {
        self.open.insert(id.serial, intent);
    }

    /// A linearizable read was asked for.
    pub fn ask_read(&mut self, ticket: u64) {
        self.reads.insert(ticket, self.seen);
    }

    /// The member died: what was in flight may have happened or not.
    pub fn forget_open(&mut self) -> u64 {
        self.reads.clear();
        let open = std::mem::take(&mut self.open);
        for intent in open.values() {
            match intent {
                // It may be in force; nothing below is promised any more.
                Intent::Compact(revision) => self.compacted = self.compacted.max(*revision),
                Intent::Alarm(_) => self.alarm = AlarmKnown::Unknown,
                Intent::Writes(_) | Intent::Either(..) => {}
            }
        }
        open.len() as u64
    }

    /// A read was answered from a store at `revision`.
    ///
    /// # Errors
    /// A stale read.
    pub fn read(&mut self, ticket: u64, revision: i64) -> Result<(), String> {
        match self.reads.remove(&ticket) {
            Some(at_least) if revision < at_least => Err(format!(
                "a linearizable read saw revision {revision}, {at_least} was acknowledged before it"
            )),
            _ => Ok(()),
        }
    }

    /// A command was answered.
    ///
    /// # Errors
    /// An answer that contradicts an earlier one.
    pub fn answered(&mut self, id: RequestId, outcome: &Outcome, report: &mut Report) -> Result<(), String> {
        // Entries of an earlier life are applied again on a start; nobody waits for them.
        let Some(intent) = self.open.remove(&id.serial) else { return Ok(()) };
        self.check_alarm(outcome, &intent)?;
        match (outcome, intent) {
            (Ok(Answer::Put(put)), Intent::Writes(writes)) => self.acknowledge(put.revision, writes)?,
            (Ok(Answer::Delete(delete)), Intent::Writes(writes)) if delete.deleted > 0 => {
                self.acknowledge(delete.revision, writes)?;
            }
            (Ok(Answer::Delete(delete)), Intent::Writes(_)) => self.seen = self.seen.max(delete.revision),
            (Ok(Answer::Txn(txn)), Intent::Either(then, otherwise)) => {
                let writes = if txn.succeeded { then } else { otherwise };
                if txn.ops.iter().any(|op| matches!(op, OpAnswer::Put(put) if put.revision != txn.revision)) {
                    return Err(format!(
                        "a transaction at revision {} has operations at others",
                        txn.revision
                    ));
                }
                self.acknowledge(txn.revision, writes)?;
            }
            (Ok(Answer::Compact { .. }), Intent::Compact(revision)) => {
                self.compacted = self.compacted.max(revision);
            }
            (Ok(Answer::Alarm(_)), Intent::Alarm(raised)) => self.alarm = AlarmKnown::is(raised),
            (Err(ApplyError::NoSpace), Intent::Writes(_) | Intent::Either(..)) => {
                report.full += 1;
                return Ok(());
            }
            (Err(ApplyError::Compacted | ApplyError::FutureRevision), Intent::Compact(_)) => {
                report.refused += 1;
                return Ok(());
            }
            (outcome, intent) => return Err(format!("{intent:?} was answered by {outcome:?}")),
        }
        report.acknowledged += 1;
        Ok(())
    }

    /// Whatever makes the store grow is refused if and only if the alarm is raised when it is applied.
    fn check_alarm(&self, outcome: &Outcome, intent: &Intent) -> Result<(), String> {
        let grows = match intent {
            Intent::Writes(writes) => writes.iter().any(|write| matches!(write, Write::Put(..))),
            Intent::Either(..) => true,
            Intent::Compact(_) | Intent::Alarm(_) => false,
        };
        let refused = matches!(outcome, Err(ApplyError::NoSpace));
        let wrong = match self.alarm {
            AlarmKnown::Lowered => refused,
            AlarmKnown::Raised => grows && !refused,
            AlarmKnown::Unknown => refused && !grows,
        };
        if wrong {
            Err(format!("{intent:?} was answered by {outcome:?}, the alarm is {:?}", self.alarm))
        } else {
            Ok(())
        }
    }

    /// After a start.
    ///
    /// # Errors
    /// What is missing or altered.
    pub fn check_start(&mut self, member: &Member) -> Result<(), String> {
        if member.revision() < self.seen {
            return Err(format!(
                "the store is at revision {} after {} was acknowledged",
                member.revision(),
                self.seen
            ));
        }
        let raised = !member.store().table(TABLE_ALARMS).is_empty();
        if self.alarm == AlarmKnown::is(!raised) {
            return Err(format!("the alarm is {:?}, the store says {raised}", self.alarm));
        }
        self.check_all(member)
    }

    /// Every acknowledged write that is not compacted, at its exact revision.
    ///
    /// # Errors
    /// What is missing or altered.
    pub fn check_all(&self, member: &Member) -> Result<(), String> {
        let store = member.store();
        if store.compacted() > self.compacted.max(0) {
            return Err(format!("compacted at {}, asked for at most {}", store.compacted(), self.compacted));
        }
        for (&revision, writes) in self.acknowledged.range(self.compacted..) {
            for write in writes {
                check_write(store, revision, write)?;
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, revision: i64, writes: Vec<Write>) -> Result<(), String> {
        self.seen = self.seen.max(revision);
        match self.acknowledged.insert(revision, writes) {
            Some(earlier) => Err(format!("revision {revision} was given twice, first to {earlier:?}")),
            None => Ok(()),
        }
    }
}

fn check_write(store: &Store, revision: i64, write: &Write) -> Result<(), String> {
    let (key, wanted) = match write {
        Write::Put(key, value) => (key, Some(value)),
        Write::Delete(key) => (key, None),
    };
    let query = Query { revision, ..Query::new(KeyRange::from_wire(key.clone(), Bytes::new())) };
    let found = match store.reader().view().range(&query) {
        Ok(found) => found.kvs,
        Err(error) => return Err(format!("revision {revision} is not readable: {error}")),
    };
    let holds = match (found.first(), wanted) {
        (Some(pair), Some(value)) => pair.value() == *value && pair.mod_revision() == revision,
        (found, None) => found.is_none(),
        (None, Some(_)) => false,
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{write:?}, acknowledged at revision {revision}, is now {found:?}"))
    }
}

//! Counts what applied commands did to the store, as their answers tell it.
//!
//! Only commands that this member proposed have an answer here, so in a cluster of one these are all commands.

use std::sync::atomic::Ordering::Relaxed;

use super::Metrics;
use crate::apply::answer::{Answer, OpAnswer, TxnAnswer};
use crate::apply::core::Answered;

/// What one command, or one branch of a transaction, did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Done {
    puts: u64,
    deletes: u64,
    ranges: u64,
}

impl Done {
    fn txn(&mut self, answer: &TxnAnswer) {
        for op in &answer.ops {
            match op {
                OpAnswer::Range(_) => self.ranges += 1,
                OpAnswer::Put(_) => self.puts += 1,
                OpAnswer::Delete(_) => self.deletes += 1,
                OpAnswer::Txn(answer) => self.txn(answer),
            }
        }
    }
}

impl Metrics {
    /// Counts puts, deletes (not the keys that they hit), ranges in transactions, and transactions of more than one of
    /// these. The families `etcd_mvcc_*_total` are absent from the page before the first call.
    pub fn count_applied(&self, answered: &[Answered]) {
        let (mut total, mut txns) = (Done::default(), 0);
        for outcome in answered.iter().filter_map(|answered| answered.outcome.as_ref().ok()) {
            let mut done = Done::default();
            match outcome {
                Answer::Put(_) => done.puts = 1,
                Answer::Delete(_) => done.deletes = 1,
                Answer::Txn(answer) => done.txn(answer),
                Answer::Compact { .. } | Answer::Alarm(_) | Answer::Members(_) | Answer::Done => continue,
            }
            txns += u64::from(done.puts + done.deletes + done.ranges > 1);
            total.puts += done.puts;
            total.deletes += done.deletes;
            total.ranges += done.ranges;
        }
        self.counts_applied.store(true, Relaxed);
        self.put.add(total.puts);
        self.delete.add(total.deletes);
        self.txn_range.add(total.ranges);
        self.txn.add(txns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::answer::{ApplyError, DeleteAnswer, Outcome, PutAnswer};
    use crate::apply::command::RequestId;

    fn put() -> PutAnswer {
        PutAnswer { revision: 2, prev: None }
    }

    fn delete(deleted: i64) -> DeleteAnswer {
        DeleteAnswer { revision: 2, deleted, tombstone_bytes: 0, prev_kvs: Vec::new() }
    }

    fn txn(ops: Vec<OpAnswer>) -> TxnAnswer {
        TxnAnswer { revision: 2, succeeded: true, ops }
    }

    #[test]
    fn operations_are_counted_not_commands() {
        let nested = txn(vec![OpAnswer::Put(put()), OpAnswer::Delete(delete(2))]);
        let outcomes: Vec<Outcome> = vec![
            Ok(Answer::Put(put())),
            Ok(Answer::Delete(delete(3))),
            Ok(Answer::Txn(txn(vec![OpAnswer::Put(put()), OpAnswer::Txn(nested)]))),
            Ok(Answer::Txn(txn(vec![OpAnswer::Put(put())]))),
            Err(ApplyError::KeyNotFound),
        ];
        let answered: Vec<Answered> = outcomes
            .into_iter()
            .map(|outcome| Answered { id: RequestId { member: 1, serial: 1 }, outcome })
            .collect();
        let metrics = Metrics::new();
        metrics.count_applied(&answered);
        let counted =
            [&metrics.put, &metrics.delete, &metrics.txn_range, &metrics.txn].map(super::super::Counter::get);
        assert_eq!(counted, [4, 2, 0, 1]);
    }
}

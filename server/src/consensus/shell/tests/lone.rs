//! What a lone put leads to, on a follower that has no threads: whatever is done here, whoever brings the message does.

use ketch_proto::etcdserverpb::TxnRequest;
use ketch_raft::{Entry, NO_ROUND, Term};

use super::*;
use crate::apply::command::{self, RequestId};

const LEADER: NodeId = IDS[1];
const TERM: Term = 5;

struct Follower {
    driver: Driver,
    sent: Receiver<Parcel>,
    last: u64,
}

/// A follower that has heard of its leader and has applied all that there is. Its disk is quick.
fn follower() -> Follower {
    let (out, sent) = mpsc::channel();
    let wire = Wire { from: IDS[0], out: vec![(LEADER, out)], cut: Cut::default(), starved: Cut::default() };
    let (driver, _boot) = driver(IDS[0], &SimDisk::new(1), wire);
    let last = driver.status().last_index;
    let mut follower = Follower { driver, sent, last };
    let entry = follower.entry(None);
    follower.receive(vec![follower.append(1, last, vec![entry])]);
    follower.settle();
    follower.receive(vec![follower.notice()]);
    follower.settle();
    assert_eq!((follower.acknowledged(), follower.driver.shared().applied()), (Some(last + 1), last + 1));
    follower.driver.sync_is_quick.store(true, Ordering::Relaxed);
    follower
}

impl Follower {
    /// The next entry. `None` is what a leader begins with.
    fn entry(&mut self, command: Option<InternalRaftRequest>) -> Entry {
        self.last += 1;
        let id = RequestId::new(LEADER, 1, self.last);
        let command = command.map(|command| command::encode(id, &Caller::default(), command));
        Entry::normal(TERM, self.last, command.unwrap_or_default())
    }

    fn puts(&mut self, count: usize) -> Vec<Entry> {
        let put = PutRequest { key: "key".into(), value: vec![7; 100].into(), ..PutRequest::default() };
        let put = InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() };
        (0..count).map(|_| self.entry(Some(put.clone()))).collect()
    }

    fn append(&self, log_term: Term, index: u64, entries: Vec<Entry>) -> Message {
        let body = Body::Append { index, log_term, entries, commit: 0 };
        Message { from: LEADER, to: IDS[0], term: TERM, body }
    }

    /// That all is committed.
    fn notice(&self) -> Message {
        let body = Body::Heartbeat { commit: self.last, round: NO_ROUND };
        Message { from: LEADER, to: IDS[0], term: TERM, body }
    }

    fn receive(&self, messages: Vec<Message>) {
        self.driver.receive_appends(messages);
    }

    /// What the drive thread would do.
    fn settle(&self) {
        while self.driver.run_consensus() | self.driver.run_log() | self.driver.run_applier() {}
    }

    /// The last index that was acknowledged since this was asked last.
    fn acknowledged(&self) -> Option<u64> {
        let acknowledged = self.sent.try_iter().filter_map(|(message, _)| match message.body {
            Body::AppendAnswer { index, rejection: None } => Some(index),
            _ => None,
        });
        acknowledged.last()
    }

    fn waits(&self) -> bool {
        self.driver.waiting() != [0; 5]
    }
}

#[test]
fn a_lone_put_is_acknowledged_and_applied_by_whoever_brings_it() {
    let mut follower = follower();
    let before = follower.last;
    let put = follower.puts(1);
    follower.receive(vec![follower.append(TERM, before, put)]);
    assert_eq!((follower.acknowledged(), follower.waits()), (Some(before + 1), false));
    follower.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before + 1, false));
}

#[test]
fn what_may_take_long_is_left_to_the_drive_thread() {
    let mut follower = follower();
    // Several entries.
    let before = follower.last;
    let puts = follower.puts(6);
    follower.receive(vec![follower.append(TERM, before, puts)]);
    assert_eq!((follower.acknowledged(), follower.waits()), (None, true));
    follower.settle();
    assert_eq!(follower.acknowledged(), Some(before + 6));
    follower.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before, true));
    follower.settle();
    assert_eq!(follower.driver.shared().applied(), before + 6);
    // A put that reads what was there.
    let before = follower.last;
    let put = PutRequest { key: "key".into(), prev_kv: true, ..PutRequest::default() };
    let entry =
        follower.entry(Some(InternalRaftRequest { put: Some(put), ..InternalRaftRequest::default() }));
    follower.receive(vec![follower.append(TERM, before, vec![entry])]);
    follower.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before, true));
    follower.settle();
    assert_eq!(follower.driver.shared().applied(), before + 1);
    // A command that is no put.
    let before = follower.last;
    let txn = InternalRaftRequest { txn: Some(TxnRequest::default()), ..InternalRaftRequest::default() };
    let entry = follower.entry(Some(txn));
    follower.receive(vec![follower.append(TERM, before, vec![entry])]);
    assert_eq!((follower.acknowledged(), follower.waits()), (Some(before + 1), false));
    follower.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before, true));
    follower.settle();
    assert_eq!(follower.driver.shared().applied(), before + 1);
}

#[test]
fn a_disk_that_is_slow_is_waited_for_by_the_drive_thread_alone() {
    let mut follower = follower();
    follower.driver.sync_is_quick.store(false, Ordering::Relaxed);
    let before = follower.last;
    let put = follower.puts(1);
    follower.receive(vec![follower.append(TERM, before, put)]);
    assert_eq!((follower.acknowledged(), follower.waits()), (None, true));
    follower.settle();
    assert_eq!(follower.acknowledged(), Some(before + 1));
}

#[test]
fn nothing_is_applied_by_whoever_brings_it_while_a_sync_hangs() {
    let mut follower = follower();
    let before = follower.last;
    let put = follower.puts(1);
    follower.receive(vec![follower.append(TERM, before, put)]);
    assert_eq!((follower.acknowledged(), follower.waits()), (Some(before + 1), false));
    let held = lock(&follower.driver.log);
    follower.driver.note_log_busy(true);
    follower.driver.ticks.fetch_add(1, Ordering::Relaxed);
    follower.driver.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before, true));
    follower.driver.note_log_busy(false);
    drop(held);
    follower.driver.receive(vec![follower.notice()]);
    assert_eq!((follower.driver.shared().applied(), follower.waits()), (before + 1, false));
}

/// Its thread hears the heartbeats.
#[test]
fn the_lane_for_what_is_urgent_never_waits_for_a_sync() {
    let mut follower = follower();
    let before = follower.last;
    let put = follower.puts(1);
    follower.driver.receive(vec![follower.append(TERM, before, put)]);
    assert_eq!((follower.acknowledged(), follower.waits()), (None, true));
    follower.settle();
    assert_eq!(follower.acknowledged(), Some(before + 1));
}

/// Nobody wakes the drive thread for it.
#[test]
fn what_comes_while_another_thread_is_at_consensus_is_looked_at_by_that_thread() {
    let mut follower = follower();
    let before = follower.last;
    let put = follower.puts(1);
    let held = lock(&follower.driver.consensus);
    follower.receive(vec![follower.append(TERM, before, put)]);
    assert!(follower.waits());
    drop(held);
    // As everybody does who lets go of it.
    follower.driver.wake_if_busy();
    assert_eq!(follower.acknowledged(), None);
    follower.settle();
    assert_eq!(follower.acknowledged(), Some(before + 1));
}

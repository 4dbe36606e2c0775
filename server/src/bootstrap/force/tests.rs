//! A member of three, of a learner's life and of one that was removed, made to stand alone; crashed at every disk operation on
//! the way.

use std::path::Path;
use std::sync::Arc;

use ketch_mvcc::{KeyRange, Query};
use ketch_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Disk, SimDisk};

use super::*;
use crate::apply::command::{self, RequestId};
use crate::bootstrap::{self, CoreOptions, First, Founding, Opened};
use crate::caller::Caller;
use crate::consensus::core::{Applied, Input, Outputs};
use crate::datadir::Identity;

const OWN: NodeId = 1;
/// Puts in the log of the member that is left.
const PUTS: u64 = 7;
/// What it knows to be committed: less than what is.
const KNOWN: Index = 5;

fn member(id: NodeId) -> Member {
    Member {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        is_learner: false,
        name: format!("m{id}"),
        client_urls: Vec::new(),
    }
}

fn open(disk: &Arc<SimDisk>, force: bool) -> Result<Opened, StartError> {
    let options = CoreOptions {
        election_ticks: 10,
        pre_vote: true,
        seed: 1,
        unsafe_no_sync: false,
        force_new_cluster: force,
        log_dir: None,
        log_segment_bytes: 64 << 10,
        store: ketch_mvcc::Options { segment_bytes: 64 << 10, ..ketch_mvcc::Options::default() },
    };
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    bootstrap::open(&disk, Path::new("/member"), &options, || {
        let identity = Identity { cluster_id: 9, member_id: OWN };
        Ok(First::New(Founding { identity, members: [1, 2, 3].map(member).to_vec() }))
    })
}

/// One of three members: what its log holds is all of `PUTS` and `more`, of which it knows the first to be committed.
fn left_behind(seed: u64, more: impl IntoIterator<Item = ConfChange>) -> Arc<SimDisk> {
    let disk = SimDisk::new(seed);
    let opened = open(&disk, false).unwrap();
    let mut batch = Batch::new();
    let mut index = 3;
    for put in 1..=PUTS {
        index += 1;
        let put = PutRequest { key: format!("key {put}").into(), value: "v".into(), ..Default::default() };
        let request = InternalRaftRequest { put: Some(put), ..Default::default() };
        let data = command::encode(RequestId::new(2, 1, index), &Caller::default(), request);
        record::push_entry(&mut batch, &Entry { term: 4, index, payload: Payload::Normal(data) });
    }
    for change in more {
        index += 1;
        record::push_entry(&mut batch, &Entry { term: 4, index, payload: Payload::ConfChange(change) });
    }
    record::push_hard_state(&mut batch, &HardState { term: 4, vote: 2, commit: KNOWN });
    opened.log.wal().commit(&mut batch).unwrap();
    drop(opened);
    disk.kill();
    disk
}

/// Runs the cores until there is nothing to do, ticking until the member leads. `None`: the disk failed.
fn lead(opened: &mut Opened) -> Option<()> {
    let (mut inputs, mut out) = (vec![Input::Tick], Outputs::default());
    for _ in 0..500 {
        opened.core.handle(&mut inputs, &mut out).unwrap();
        inputs.extend(
            opened.log.persist(std::mem::take(&mut out.persist)).ok()?.into_iter().map(Input::Persisted),
        );
        for job in out.apply.drain(..) {
            let mut conf_changes = Vec::new();
            opened.applier.apply(job.entries, &mut Vec::new(), &mut conf_changes).ok()?;
            let index = opened.applier.applied_index();
            inputs.push(Input::Applied(Applied { token: job.token, index, conf_changes, snapshot: None }));
        }
        opened.applier.commit().ok()?;
        let led = opened.core.standing().leader == OWN;
        if inputs.is_empty() {
            if led && opened.applier.applied_index() == opened.core.standing().commit {
                return Some(());
            }
            inputs.push(Input::Tick);
        }
    }
    panic!("it does not lead: {:?}, {:?}", opened.core.status(), opened.applier.cluster());
}

/// It leads a cluster of one, with all that its log held.
fn is_alone_with_everything(opened: &Opened, hint: &str) {
    let cluster = opened.applier.cluster();
    assert_eq!(cluster.members.keys().copied().collect::<Vec<_>>(), [OWN], "{hint}");
    assert_eq!(cluster.members[&OWN], member(OWN), "{hint}");
    assert_eq!(cluster.conf_state, ketch_raft::ConfState::of_voters([OWN]), "{hint}");
    assert_eq!(opened.identity, Identity { cluster_id: 9, member_id: OWN }, "{hint}");
    let view = opened.applier.store().reader().view();
    let found = view.range(&Query::new(KeyRange::all())).unwrap();
    assert_eq!(found.count, PUTS, "{hint}");
}

#[test]
fn one_of_three_goes_on_alone_with_all_that_its_log_holds() {
    let disk = left_behind(1, []);
    let mut opened = open(&disk, true).unwrap();
    lead(&mut opened).unwrap();
    is_alone_with_everything(&opened, "at once");
    assert_eq!(opened.applier.cluster().removed, [2, 3].into());
    let end = opened.core.status().last_index;
    drop(opened);
    disk.kill();
    // Forced again it has nothing to do, and not forced it is the same.
    for force in [true, false] {
        let mut opened = open(&disk, force).unwrap();
        assert_eq!(opened.core.status().last_index, end + u64::from(!force), "no entry but a leader's first");
        lead(&mut opened).unwrap();
        is_alone_with_everything(&opened, "again");
        drop(opened);
        disk.kill();
    }
}

#[test]
fn a_learner_votes_and_changes_that_were_on_their_way_count() {
    let single = ConfChange::single;
    let with = |kind, id: NodeId, is_promote| {
        let context = Context { is_promote, ..Context::of(member(id)) };
        ConfChange { context: context.to_json().into(), ..single(kind, id) }
    };
    let more = [
        with(ConfChangeKind::AddLearner, 4, false),
        single(ConfChangeKind::Remove, 2),
        with(ConfChangeKind::AddVoter, 4, true),
        with(ConfChangeKind::AddLearner, 5, false),
    ];
    let disk = left_behind(2, more);
    let mut opened = open(&disk, true).unwrap();
    lead(&mut opened).unwrap();
    is_alone_with_everything(&opened, "with changes on their way");
    assert_eq!(opened.applier.cluster().removed, [2, 3, 4, 5].into());
}

#[test]
fn who_was_removed_is_not_made_a_cluster() {
    let disk = left_behind(3, [ConfChange::single(ConfChangeKind::Remove, OWN)]);
    assert!(matches!(open(&disk, true), Err(StartError::Removed)));
    disk.kill();
    let status = open(&disk, false).unwrap().core.status();
    assert_eq!((status.last_index, status.term), (4 + PUTS, 4), "nothing is written");
}

#[test]
fn a_new_directory_takes_no_notice() {
    let disk = SimDisk::new(4);
    let opened = open(&disk, true).unwrap();
    assert!(opened.founded);
    assert_eq!(opened.core.status().last_index, 3);
}

#[test]
fn a_crash_on_the_way_changes_nothing_that_matters() {
    let mut crashes = 0;
    for op in [Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::Rename, Op::Remove] {
        for skip in 0.. {
            let disk = left_behind(skip * 7 + op as u64, []);
            disk.fail(op, skip, Fault::Eio);
            let done = open(&disk, true).ok().and_then(|mut opened| lead(&mut opened)).is_some();
            disk.heal();
            disk.crash();
            crashes += 1;
            let hint = format!("{op:?} {skip}");
            if done {
                // Acknowledged: it is alone even if nobody insists.
                let mut opened = open(&disk, false).unwrap_or_else(|error| panic!("{hint}: {error}"));
                lead(&mut opened).unwrap();
                is_alone_with_everything(&opened, &hint);
                break;
            }
            let mut opened = open(&disk, true).unwrap_or_else(|error| panic!("{hint}: {error}"));
            lead(&mut opened).unwrap();
            is_alone_with_everything(&opened, &hint);
        }
    }
    assert!(crashes > 12, "{crashes}");
}

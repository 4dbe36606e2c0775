//! Restoring on a simulated disk: whole files, damaged ones, and crashes in between.

use std::path::Path;

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Query, Store};
use ketch_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest,
};
use ketch_raft::Entry;
use ketch_wal::SimDisk;
use ketch_wal::sim::{Fault, Op};

use super::*;
use crate::apply::alarm::Alarms;
use crate::apply::cluster::TABLE_MEMBERS;
use crate::apply::command::{self, RequestId};
use crate::apply::core::ApplyCore;
use crate::bootstrap::CoreOptions;
use crate::caller::Caller;
use crate::cluster::Context;
use crate::sim;
use crate::snapshot::source::Source;
use crate::snapshot::status;

const FILE: &str = "/files/snapshot";

fn small() -> ketch_mvcc::Options {
    ketch_mvcc::Options { segment_bytes: 64 << 10, ..ketch_mvcc::Options::default() }
}

/// A store with some history, as a member of another cluster has it.
fn history(puts: u64) -> ApplyCore {
    let store = Store::open(SimDisk::new(9), Path::new("/s"), small()).unwrap();
    let mut core = ApplyCore::new(7, store).unwrap();
    let none = InternalRaftRequest::default;
    let mut commands: Vec<InternalRaftRequest> = (0..puts)
        .map(|number| {
            let key = format!("key{:02}", number % 20);
            let value = format!("value {number}").into();
            let put = PutRequest { key: key.into(), value, ..PutRequest::default() };
            InternalRaftRequest { put: Some(put), ..none() }
        })
        .collect();
    let delete = DeleteRangeRequest { key: "key03".into(), ..DeleteRangeRequest::default() };
    commands.push(InternalRaftRequest { delete_range: Some(delete), ..none() });
    let compaction = CompactionRequest { revision: puts as i64 / 2, ..CompactionRequest::default() };
    commands.push(InternalRaftRequest { compaction: Some(compaction), ..none() });
    let alarm = AlarmRequest { action: 1, alarm: 1, member_id: 7 };
    commands.push(InternalRaftRequest { alarm: Some(alarm), ..none() });
    let peers: Vec<_> = sim::founding()
        .members
        .iter()
        .map(|member| {
            let member = crate::cluster::Member { id: 7, name: "lost".into(), ..member.clone() };
            (7, Bytes::from(Context::of(member).to_json()))
        })
        .collect();
    let (_, mut entries) = ketch_raft::bootstrap(&peers);
    for (index, command) in (2..).zip(commands) {
        let id = RequestId::new(7, 1, index);
        entries.push(Entry::normal(1, index, command::encode(id, &Caller::default(), command)));
    }
    core.apply(entries, &mut Vec::new(), &mut Vec::new()).unwrap();
    core.commit().unwrap();
    core
}

fn file_of(core: &ApplyCore) -> Vec<u8> {
    let mut source = Source::new(&core.store().reader().view(), (3, 7)).unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = source.next_piece().unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!((source.written(), source.total() + 32), (bytes.len() as u64, bytes.len() as u64));
    bytes
}

fn write(disk: &Arc<SimDisk>, bytes: &[u8]) {
    disk.create_dir_all(Path::new("/files")).unwrap();
    let _absent = disk.remove(Path::new(FILE));
    let file = disk.create(Path::new(FILE)).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/files")).unwrap();
}

fn plan(bump: u64) -> Plan {
    Plan {
        snapshot: FILE.into(),
        data_dir: "/member".into(),
        wal_dir: None,
        founding: sim::founding(),
        skip_hash_check: false,
        bump,
        log_segment_bytes: 64 << 10,
        store: small(),
    }
}

fn as_disk(disk: &Arc<SimDisk>) -> Arc<dyn Disk> {
    disk.clone()
}

fn everything(store: &Store) -> Vec<ketch_mvcc::KeyValue> {
    let all = Query::new(KeyRange::Span { start: Bytes::new(), end: None });
    store.reader().view().range(&all).unwrap().kvs
}

#[test]
fn a_restored_member_has_everything_and_is_a_new_clusters() {
    for bump in [0, 1_000] {
        let lost = history(100);
        let disk = SimDisk::new(1);
        write(&disk, &file_of(&lost));
        restore(&as_disk(&disk), &plan(bump)).unwrap();
        disk.crash();
        let (mut random, mut report) = (sim::Random::new(5), sim::Report::default());
        let mut member = sim::Member::start(&disk, &mut random, &mut report).unwrap();
        member.settle(&mut random, &mut sim::History::default(), &mut report).unwrap();
        let store = member.store();
        let revision = lost.store().revision() + bump as i64;
        assert_eq!((store.revision(), everything(store)), (revision, everything(lost.store())));
        assert_eq!(store.compacted(), if bump == 0 { 50 } else { revision });
        let members: Vec<_> = store.table(TABLE_MEMBERS).iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(members, [format!("{:x}", sim::founding().identity.member_id)]);
        // As in etcd alarms come along: whoever restores a full store has to make room.
        assert_eq!(Alarms::load(store).unwrap().members(), lost.alarms());
        assert!(restore(&as_disk(&disk), &plan(0)).is_err(), "the directory is taken");
    }
}

#[test]
fn status_says_what_is_in_it() {
    let disk = SimDisk::new(1);
    let lost = history(100);
    let bytes = file_of(&lost);
    assert_eq!(bytes.len() % 512, 32);
    write(&disk, &bytes);
    let found = status(&*disk, Path::new(FILE)).unwrap();
    assert_eq!((found.revision, found.keys, found.bytes), (102, 19, bytes.len() as u64 - 32));
    assert_eq!(found.version, "3.7.0");
    assert_eq!(bytes, file_of(&lost), "one state, one file");
}

#[test]
fn a_file_that_was_altered_anywhere_or_cut_off_is_refused() {
    let disk = SimDisk::new(1);
    let bytes = file_of(&history(6));
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        write(&disk, &altered);
        assert!(status(&*disk, Path::new(FILE)).is_err(), "byte {at}");
        assert!(restore(&as_disk(&disk), &plan(0)).is_err(), "byte {at}");
        // Without the checksum at the end, those inside still see everything but the checksum itself.
        let careless = Plan { skip_hash_check: true, ..plan(0) };
        if at < bytes.len() - super::super::format::TRAILER {
            assert!(restore(&as_disk(&disk), &careless).is_err(), "byte {at}");
        }
    }
    for cut in 0..bytes.len() {
        write(&disk, &bytes[..cut]);
        assert!(restore(&as_disk(&disk), &plan(0)).is_err(), "cut at {cut}");
    }
    write(&disk, &[&bytes[..], &[0; 512]].concat());
    assert!(restore(&as_disk(&disk), &plan(0)).is_err(), "with something behind it");
    // Nothing was written for any of them.
    write(&disk, &bytes);
    restore(&as_disk(&disk), &plan(0)).unwrap();
}

#[test]
fn a_crash_leaves_nothing_a_refusal_or_a_whole_member() {
    let lost = history(40);
    let bytes = file_of(&lost);
    let (mut refused, mut whole) = (0, 0);
    for op in [Op::Write, Op::Sync, Op::SyncDir, Op::Create, Op::Rename, Op::Remove] {
        for skip in 0.. {
            let disk = SimDisk::new(skip + 1);
            write(&disk, &bytes);
            disk.fail(op, skip, Fault::Eio);
            let done = restore(&as_disk(&disk), &plan(0)).is_ok();
            disk.heal();
            disk.crash();
            let options = CoreOptions {
                election_ticks: 10,
                pre_vote: true,
                seed: 1,
                unsafe_no_sync: false,
                force_new_cluster: false,
                log_dir: None,
                log_segment_bytes: 64 << 10,
                store: small(),
            };
            match bootstrap::open(&as_disk(&disk), Path::new("/member"), &options, || Err("new".into())) {
                Ok(opened) => {
                    whole += 1;
                    assert_eq!(everything(opened.applier.store()), everything(lost.store()), "{op:?} {skip}");
                }
                Err(StartError::Founding(_)) => assert!(!done, "{op:?} {skip}: it is empty"),
                Err(StartError::DataDir(DataDirError::Unfinished(_))) => {
                    refused += 1;
                    assert!(!done, "{op:?} {skip}: it refuses to start");
                }
                Err(other) => panic!("{op:?} {skip}: {other}"),
            }
            if done {
                break;
            }
        }
    }
    assert!(refused > 20 && whole >= 6, "{refused} refused, {whole} whole");
}

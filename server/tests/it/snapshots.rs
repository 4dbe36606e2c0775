//! Snapshots of a running member: saved by the real etcdctl, looked at and restored by ketch's own commands, compared with
//! etcdutl where the two can be.

use std::path::Path;
use std::process::{Command, Stdio};

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use ketch_proto::etcdserverpb::*;
use ketch_proto::mvccpb::KeyValue;
use ketch_proto::tonic::transport::{Channel, Endpoint};

use crate::harness::process::{ADVERTISED_PEER, Instance};
use crate::harness::programs;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(program: &Path, args: &[&str]) -> Outcome {
    let output = Command::new(program).args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn save(tools: &Path, server: &Instance, file: &str) {
    let saved = run(&tools.join("etcdctl"), &["--endpoints", &server.url(), "snapshot", "save", file]);
    assert_eq!(saved.code, Some(0), "{saved:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn connect(server: &Instance) -> Channel {
    Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap()
}

fn put(key: &str, value: &[u8]) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_vec().into(), ..PutRequest::default() }
}

/// All keys at a revision, and the store's revision; the error's words if that revision cannot be read.
async fn everything(kv: &mut KvClient<Channel>, revision: i64) -> Result<(Vec<KeyValue>, i64), String> {
    let request =
        RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..RangeRequest::default() };
    let found = kv.range(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    Ok((found.kvs, found.header.unwrap().revision))
}

/// A history with deletes, several versions and a compaction.
async fn fill(kv: &mut KvClient<Channel>) {
    for number in 0..300 {
        kv.put(put(&format!("key{:02}", number % 60), format!("value {number}").as_bytes())).await.unwrap();
        if number % 50 == 49 {
            let gone = DeleteRangeRequest {
                key: "key1".into(),
                range_end: "key2".into(),
                ..DeleteRangeRequest::default()
            };
            kv.delete_range(gone).await.unwrap();
        }
    }
    kv.compact(CompactionRequest { revision: 150, physical: true }).await.unwrap();
}

/// The restored member's flags: peer addresses of its own, for a cluster of another token.
fn restore_args<'a>(file: &'a str, dir: &'a str, cluster: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let args =
        ["snapshot", "restore", file, "--data-dir", dir, "--name", "tester", "--initial-cluster", cluster];
    let more = ["--initial-advertise-peer-urls", ADVERTISED_PEER, "--initial-cluster-token=other"];
    [&args[..], &more, rest].concat()
}

/// Save, restore, start: the same on both sides, down to the revisions.
#[test]
fn a_restored_member_goes_on_where_the_snapshot_was_taken() {
    let Some(tools) = programs::real_etcd("a_restored_member_goes_on_where_the_snapshot_was_taken") else {
        return;
    };
    let (etcd, etcdutl) = (tools.join("etcd"), tools.join("etcdutl"));
    let sides = [(programs::ketch(), programs::ketch()), (etcd, etcdutl)];
    let cluster = format!("tester={ADVERTISED_PEER}");
    for rest in [&[][..], &["--bump-revision", "1000", "--mark-compacted"], &["--wal-dir"]] {
        let (bumped, mut facts) = (rest.len() > 1, Vec::new());
        for (program, utl) in &sides {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
            let (file, restored) = (path("file"), path("restored"));
            let mut server = Instance::new(program, path("data"));
            let process = server.start_settled();
            let (before, late) = runtime().block_on(async {
                let mut kv = KvClient::new(connect(&server).await);
                fill(&mut kv).await;
                save(tools, &server, &file);
                let before = everything(&mut kv, 0).await.unwrap();
                kv.put(put("after the snapshot", b"")).await.unwrap();
                (before, everything(&mut kv, 160).await.unwrap().0)
            });
            drop(process);
            let log = path("log");
            let mut rest = rest.to_vec();
            let apart = rest == ["--wal-dir"];
            rest.extend(apart.then_some(&*log));
            let done = run(utl, &restore_args(&file, &restored, &cluster, &rest));
            assert_eq!(done.code, Some(0), "{done:?}");
            server.data_dir = restored.into();
            if apart {
                server.flags = rest.iter().copied().map(str::to_owned).collect();
            }
            let _process = server.start_settled();
            runtime().block_on(async {
                let mut kv = KvClient::new(connect(&server).await);
                let after = everything(&mut kv, 0).await.unwrap();
                assert_eq!(after.0, before.0);
                let bump = after.1 - before.1;
                assert_eq!(bump, if bumped { 1000 } else { 0 });
                let old = everything(&mut kv, 160).await;
                if !bumped {
                    assert_eq!(old.as_ref().unwrap().0, late, "older revisions came along");
                }
                facts.push(format!(
                    "{:?} {:?}",
                    old.map(|(kvs, _)| kvs.len()),
                    everything(&mut kv, 149).await
                ));
                let next = kv.put(put("next", b"")).await.unwrap().into_inner().header.unwrap();
                assert_eq!(next.revision, after.1 + 1);
                let mut maintenance = MaintenanceClient::new(connect(&server).await);
                let hash = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
                facts.push(format!("{:?} {} {}", next, hash.compact_revision, hash.hash_revision));
            });
        }
        let (ketch, etcd) = facts.split_at(2);
        assert_eq!(ketch, etcd, "{rest:?}: ketch is left, etcd right");
    }
}

/// Each tool on a snapshot of its own server: exit codes and complaints are the same.
#[test]
fn the_commands_are_etcdutls() {
    let Some(tools) = programs::real_etcd("the_commands_are_etcdutls") else { return };
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let sides = [
        ("ketch", programs::ketch(), programs::ketch()),
        ("etcd", tools.join("etcd"), tools.join("etcdutl")),
    ];
    for (name, program, _) in &sides {
        let server = Instance::new(program, path(&format!("{name}.data")));
        let _process = server.start_settled();
        runtime().block_on(async {
            let mut kv = KvClient::new(connect(&server).await);
            for number in 0..7 {
                kv.put(put(&format!("key{}", number % 4), b"value")).await.unwrap();
            }
        });
        save(tools, &server, &path(&format!("{name}.file")));
        let mut file = std::fs::read(path(&format!("{name}.file"))).unwrap();
        std::fs::write(path(&format!("{name}.cut")), &file[..file.len() - 1]).unwrap();
        let middle = file.len() / 2;
        file[middle] ^= 1;
        std::fs::write(path(&format!("{name}.altered")), file).unwrap();
    }
    std::fs::write(path("junk"), vec![7; 1056]).unwrap();
    let (outside, busy) = (path("none"), path("busy"));
    std::fs::create_dir_all(Path::new(&busy).join("something")).unwrap();
    let new = |number: usize, side: &str| path(&format!("{side}.restored{number}"));
    let cases: Vec<Vec<&str>> = [
        "status FILE",
        "status FILE -w json",
        "status FILE --write-out=fields",
        "status -w table FILE",
        "status FILE -w protobuf",
        "status FILE -w bogus",
        "status",
        "status FILE FILE",
        "status NONE",
        "status FILE --bogus",
        "status FILE -x",
        "restore",
        "restore FILE FILE --data-dir NEW",
        "restore FILE --data-dir BUSY",
        "restore FILE --data-dir NEW --wal-dir BUSY",
        "restore FILE --data-dir NEW --wal-dir NEWLOG",
        "restore NONE --data-dir NEW",
        "restore FILE --data-dir NEW --bump-revision 5",
        "restore FILE --data-dir NEW --mark-compacted",
        "restore FILE --data-dir NEW --bump-revision -5",
        "restore FILE --data-dir NEW --bump-revision",
        "restore FILE --data-dir NEW --bogus",
        "restore FILE --data-dir NEW --name a",
        "restore FILE --data-dir NEW --initial-cluster x=y",
        "restore FILE --data-dir NEW --initial-advertise-peer-urls x",
        "restore FILE --data-dir NEW --initial-cluster default=http://127.0.0.1:2 --initial-advertise-peer-urls http://127.0.0.1:1",
        "restore FILE --data-dir NEW --skip-hash-check=maybe",
        "restore FILE --data-dir NEW --initial-memory-map-size 4096",
        "restore FILE --data-dir NEW --skip-hash-check --initial-cluster-token t",
        "restore FILE --data-dir NEW --name=a --initial-cluster a=http://localhost:2380,b=http://localhost:3380",
        "restore JUNK --data-dir NEW",
        "status JUNK",
        "restore CUT --data-dir NEW",
        "restore ALTERED --data-dir NEW",
    ]
    .iter()
    .map(|line| line.split(' ').collect())
    .collect();
    for (number, case) in cases.iter().enumerate() {
        let [ketch, etcd] = sides.each_ref().map(|(name, _, utl)| {
            let (file, new) = (path(&format!("{name}.file")), new(number, name));
            let words = case.iter().map(|word| match *word {
                "FILE" => file.clone(),
                "NONE" => outside.clone(),
                "BUSY" => busy.clone(),
                "NEW" => new.clone(),
                "NEWLOG" => format!("{new}.log"),
                "JUNK" => path("junk"),
                "CUT" => path(&format!("{name}.cut")),
                "ALTERED" => path(&format!("{name}.altered")),
                word => word.to_owned(),
            });
            let words: Vec<String> = std::iter::once("snapshot".to_owned()).chain(words).collect();
            let done = run(utl, &words.iter().map(String::as_str).collect::<Vec<_>>());
            let complaint =
                done.err.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default().to_owned();
            let shape: String =
                done.out.chars().filter(|c| !c.is_ascii_alphanumeric() && !" ─.".contains(*c)).collect();
            let shape = if case[0] == "status" { shape } else { String::new() };
            (done.code, complaint, shape)
        });
        if ["JUNK", "CUT", "ALTERED"].iter().any(|file| case.contains(file)) {
            // The words are each program's own.
            assert!(ketch.0 == Some(1) && etcd.0 == Some(1), "{case:?}: {ketch:?} {etcd:?}");
            assert!(!Path::new(&new(number, "ketch")).exists(), "{case:?}");
        } else {
            assert_eq!(ketch, etcd, "{case:?}: ketch is left, etcdutl right");
        }
    }
    // etcdutl looks at nothing here but the file's tables.
    for file in ["ketch.cut", "ketch.altered"] {
        let refused = run(&programs::ketch(), &["snapshot", "status", &path(file)]);
        assert!(refused.code == Some(1) && refused.out.is_empty(), "{refused:?}");
    }
    let unknown = run(&programs::ketch(), &["snapshot", "bogus"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("unknown command \"bogus\""), "{unknown:?}");
    for args in [&["status"][..], &["restore", "--data-dir", &path("never")]] {
        let refused = run(&programs::ketch(), &[&["snapshot"], args, &[&path("etcd.file")]].concat());
        assert!(refused.code == Some(1) && refused.err.contains("is a snapshot of etcd"), "{refused:?}");
    }
    assert!(!Path::new(&path("never")).exists());
}

/// A client that stops reading holds up neither writes nor, once it is gone, compaction.
#[test]
fn a_stream_that_is_abandoned_lets_go() {
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let _process = server.start();
    runtime().block_on(async {
        let channel = connect(&server).await;
        let (mut kv, mut maintenance) = (KvClient::new(channel.clone()), MaintenanceClient::new(channel));
        for number in 0..40 {
            kv.put(put(&format!("key{number:02}"), &vec![number; 256 << 10])).await.unwrap();
        }
        let mut stream = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(first.blob.len() <= 32 << 10 && first.version == "3.7.0", "{first:?}");
        assert!(first.remaining_bytes > 10 << 20, "{}", first.remaining_bytes);
        // Nobody reads the stream while these are written.
        for number in 0..40 {
            kv.put(put(&format!("key{number:02}"), b"small")).await.unwrap();
        }
        let revision = kv.put(put("last", b"")).await.unwrap().into_inner().header.unwrap().revision;
        drop(stream);
        kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
        let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
        assert!(status.db_size < 1 << 20, "{status:?}");
    });
}

/// The state of one revision, whatever is written while the stream is read.
#[test]
fn a_snapshot_is_of_one_revision_while_writes_go_on() {
    let Some(tools) = programs::real_etcd("a_snapshot_is_of_one_revision_while_writes_go_on") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let server = Instance::new(programs::ketch(), path("data"));
    let _process = server.start();
    let runtime = runtime();
    // Two keys that are always equal.
    let pair = |value: String| {
        let op = |key: &str| RequestOp {
            request: Some(request_op::Request::RequestPut(put(key, value.as_bytes()))),
        };
        TxnRequest { success: vec![op("a"), op("z")], ..TxnRequest::default() }
    };
    let mut kv = runtime.block_on(async { KvClient::new(connect(&server).await) });
    runtime.block_on(async {
        for number in 0..20 {
            kv.put(put(&format!("filler{number}"), &vec![number; 200 << 10])).await.unwrap();
        }
    });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let writer = runtime.spawn(async move {
        let mut count = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            kv.txn(pair(count.to_string())).await.unwrap();
            count += 1;
        }
        count
    });
    for round in 0..3 {
        save(tools, &server, &path(&format!("file{round}")));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(runtime.block_on(writer).unwrap() > 0);
    if !programs::is_ketch() {
        return;
    }
    let cluster = format!("tester={ADVERTISED_PEER}");
    for round in 0..3 {
        let (file, restored) = (path(&format!("file{round}")), path(&format!("restored{round}")));
        let done = run(&programs::ketch(), &restore_args(&file, &restored, &cluster, &[]));
        assert_eq!(done.code, Some(0), "{done:?}");
        let server = Instance::new(programs::ketch(), restored);
        let _process = server.start();
        let found = runtime.block_on(async {
            let mut kv = KvClient::new(connect(&server).await);
            everything(&mut kv, 0).await.unwrap().0
        });
        let of =
            |key: &str| found.iter().find(|kv| kv.key == key).map(|kv| (kv.value.clone(), kv.mod_revision));
        assert_eq!(of("a"), of("z"), "round {round}");
        assert!(found.len() >= 20, "round {round}");
    }
}

//! The nine guarantees of watches, over real sockets: one writer whose history is known, watchers that are slow, cancel and
//! come again, a server that is killed, and compaction in between.

mod check;
mod history;
mod watcher;

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use ketch_proto::etcdserverpb::{CompactionRequest, RangeRequest};
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tokio::sync::watch;

use crate::harness::process::{Instance, Process};
use crate::harness::programs;
use crate::harness::random::{Random, number_from_env};
use check::Case;
use history::{History, KEYS, Write, key};
use watcher::{Wants, Written};

/// Transactions of one run.
const WRITES: u64 = 400;
const WRITES_PER_LIFE: u64 = 120;
/// Revisions that a compaction leaves.
const KEPT: i64 = 15;

fn wants(random: &mut Random) -> Vec<Wants> {
    let all = Wants {
        key: b"g/".to_vec(),
        range_end: b"g0".to_vec(),
        filters: Vec::new(),
        prev_kv: true,
        fragment: false,
        slow: 0,
    };
    let low = random.next() % KEYS;
    vec![
        all.clone(),
        Wants { slow: 10, ..all.clone() },
        Wants { slow: 40, prev_kv: false, ..all.clone() },
        Wants { fragment: true, ..all.clone() },
        Wants { key: vec![0], range_end: vec![0], ..all.clone() },
        Wants { key: key(low), range_end: Vec::new(), ..all.clone() },
        Wants { key: key(KEYS - 2), range_end: Vec::new(), slow: 25, ..all.clone() },
        Wants { key: key(5), range_end: key(15), prev_kv: false, ..all.clone() },
        Wants { filters: vec![FilterType::Noput], ..all.clone() },
        Wants { filters: vec![FilterType::Nodelete], slow: 5, ..all },
    ]
}

async fn connect(server: &Instance) -> KvClient<Channel> {
    KvClient::new(Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap())
}

/// Writes, kills and compacts; gives the history, the last compaction, and the server's last life.
async fn write(
    server: &Instance,
    random: &mut Random,
    written: &watch::Sender<Written>,
) -> (History, i64, Process) {
    let (mut history, mut compacted) = (History::default(), 0);
    let mut process = Some(tokio::task::block_in_place(|| server.start()));
    let mut kv = connect(server).await;
    for number in 1..=WRITES {
        let write = Write::draw(random);
        let changes = history.changes(&write);
        if number % WRITES_PER_LIFE == 0 {
            // Whether the write made it before the kill shows only afterwards.
            let request = kv.txn(write.request());
            let kill = async { tokio::task::block_in_place(|| process.take().unwrap().kill()) };
            let (_unknown, ()) = tokio::join!(request, kill);
            process = Some(tokio::task::block_in_place(|| server.start()));
            kv = connect(server).await;
            let anything = RangeRequest { key: "g/".into(), ..Default::default() };
            let found = kv.range(anything).await.unwrap().into_inner().header.unwrap().revision;
            if changes && found == history.latest() + 1 {
                history.apply(&write);
            }
            assert_eq!(found, history.latest(), "acknowledged, and gone after a kill");
        } else {
            let answer = kv.txn(write.request()).await.unwrap().into_inner();
            history.apply(&write);
            assert_eq!(answer.header.unwrap().revision, history.latest());
        }
        if number % 25 == 0 && history.latest() > KEPT + 2 {
            compacted = history.latest() - KEPT;
            kv.compact(CompactionRequest { revision: compacted, physical: false }).await.unwrap();
        }
        written.send_replace(Written { latest: history.latest(), over: false });
    }
    written.send_replace(Written { latest: history.latest(), over: true });
    (history, compacted, process.unwrap())
}

#[test]
fn watches_keep_their_guarantees() {
    let seed = number_from_env("KETCH_SEED", 1);
    println!("KETCH_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    let mut random = Random::new(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, receiver) = watch::channel(Written::default());
        let wants = wants(&mut random);
        let watchers: Vec<_> = wants
            .iter()
            .map(|one| tokio::spawn(watcher::run(server.url(), one.clone(), receiver.clone(), random.next())))
            .collect();
        let (history, compacted, _process) = write(&server, &mut random, &sender).await;
        let mut resumes = 0;
        for (one, task) in wants.iter().zip(watchers) {
            let seen = task.await.unwrap();
            Case::new(one, &seen, &history, compacted).check();
            resumes += seen.resumed.len();
        }
        assert!(resumes > wants.len(), "every watcher lost its server at least once: {resumes}");
    });
}

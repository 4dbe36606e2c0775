//! Members that may not join: the real etcd and ketch, on the same ports, end with the same code and say the same.

use std::path::{Path, PathBuf};

use ketch_proto::etcdserverpb::MemberAddRequest;
use ketch_proto::etcdserverpb::cluster_client::ClusterClient;
use ketch_proto::tonic::Status;

use crate::both::at_both;
use crate::harness::process::{Process, READY};
use crate::harness::programs;
use crate::members::{Cluster, Member, eventually};
use crate::run::runtime;

const FLAGS: &[&str] = &["--heartbeat-interval=50", "--election-timeout=500"];

/// How a process that must not serve ended: its code, and why.
type Refusal = (Option<i32>, String);

/// Starts `member`, which is expected to end by itself.
fn refusal(cluster: &Cluster, member: &Member) -> Refusal {
    let mut process = Process::spawn(&mut cluster.command(member));
    let status = process.wait();
    let log = process.log();
    assert!(!log.contains(READY), "{log}");
    (status.code(), reason(&log))
}

/// What the last line beyond mere warnings says: etcd names the error apart from what it was about.
pub(crate) fn reason(log: &str) -> String {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let grave =
        |line: &serde_json::Value| ["error", "fatal", "panic"].iter().any(|level| line["level"] == *level);
    let Some(last) = lines.rfind(grave) else { return log.to_owned() };
    let said = last.get("error").or_else(|| last.get("msg")).and_then(serde_json::Value::as_str);
    said.unwrap_or(log).to_owned()
}

/// A newcomer that does something wrong, by what.
fn refusals(cluster: &mut Cluster, draft: &mut Member, dir: &Path) -> Vec<(String, Refusal)> {
    let mut told = Vec::new();
    let others = cluster.initial_cluster();
    let own = format!("{}={}", draft.name, draft.peer_url());
    let elsewhere = |name: &str, text: &str| {
        let list = text.split(',').map(|one| match one.split_once('=') {
            Some((of, _)) if of == name => format!("{of}=http://127.0.0.1:1"),
            _ => one.to_owned(),
        });
        list.collect::<Vec<_>>().join(",")
    };
    let all = format!("{others},{own}");
    let twice = format!("{own},other={}", draft.peer_url());
    let nobody = format!("{own},m1=http://127.0.0.1:1");
    let (url, more) = (draft.peer_url(), format!("{},http://127.0.0.1:1", draft.peer_url()));
    let mut attempt = |what: &str, state: &'static str, list: &str, extra: &[String]| {
        drop(std::fs::remove_dir_all(&draft.data));
        draft.birth = (state, list.to_owned());
        draft.extra = extra.to_vec();
        told.push((what.to_owned(), refusal(cluster, draft)));
    };
    let flag = |name: &str, value: &str| vec![format!("--{name}={value}")];
    attempt("it was not announced", "existing", &all, &[]);
    attempt("its name is not on the list", "existing", &all, &flag("name", "nobody"));
    attempt("its name is not on the list of a new cluster", "new", &all, &flag("name", "nobody"));
    attempt("it is alone on the list", "existing", &own, &[]);
    attempt("nobody answers", "existing", &nobody, &[]);
    attempt("a URL is there twice", "existing", &twice, &[]);
    attempt("a URL is there twice in a new cluster", "new", &twice, &[]);
    attempt("it advertises another URL", "new", &elsewhere("m4", &all), &[]);
    attempt("it advertises more", "new", &own, &flag("initial-advertise-peer-urls", &more));
    attempt("a URL is none", "existing", &format!("{own},m1=wat"), &[]);
    announce(cluster, &url);
    attempt("somebody else is elsewhere", "existing", &elsewhere("m2", &all), &[]);
    attempt("it is elsewhere itself", "existing", &elsewhere("m4", &all), &[]);
    attempt("somebody is missing", "existing", &others.replacen("m1=", "m4=", 1), &[]);
    // A founder that has lost its disk is none that could be founded again.
    cluster.members[1].kill();
    let away = std::mem::replace(&mut cluster.members[1].data, PathBuf::from(dir));
    told.push(("it was founded before".into(), refusal(cluster, &cluster.members[1])));
    cluster.members[1].data = away;
    cluster.start(1);
    // In the end, as it should be.
    drop(std::fs::remove_dir_all(&draft.data));
    draft.birth = ("existing", all);
    draft.extra.clear();
    let process = Process::spawn(&mut cluster.command(draft));
    assert!(process.await_line(READY), "{}", process.log());
    told
}

/// Any member is told that somebody comes.
fn announce(cluster: &Cluster, url: &str) {
    let request = MemberAddRequest { peer_urls: vec![url.to_owned()], is_learner: false };
    tokio::runtime::Handle::current().block_on(async {
        // Members that have not been connected for long count as unhealthy.
        let id = eventually("somebody is announced", async || {
            let at = cluster.leader().await;
            let added = ClusterClient::new(cluster.members[at].channel()).member_add(request.clone()).await?;
            Ok::<_, Status>(added.into_inner().member.unwrap().id)
        })
        .await;
        // Everybody may be asked who is a member.
        for at in 0..3 {
            assert!(cluster.list(at).await.iter().any(|member| member.id == id));
        }
    });
}

/// What depends on the moment somebody was added: ids of 16 digits that are not those of the founders.
fn masked(text: &str, founders: &[u64]) -> String {
    let is_id = |word: &str| {
        word.len() >= 14 && u64::from_str_radix(word, 16).is_ok_and(|id| !founders.contains(&id))
    };
    let mut masked = String::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_hexdigit() {
            word.push(c);
            continue;
        }
        masked.push_str(if is_id(&word) { "ID" } else { &word });
        word.clear();
        masked.push(c);
    }
    // etcd lists members in no order.
    let mut words: Vec<&str> = masked.split([' ', '[', ']', '{', '}', '&', '(', ')', ',']).collect();
    words.sort_unstable();
    words.join(" ")
}

#[test]
fn who_may_not_join_ends_as_in_etcd() {
    let Some(tools) = programs::real_etcd("who_may_not_join_ends_as_in_etcd") else { return };
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = tokio::task::block_in_place(|| Cluster::found(tools.join("etcd"), 3, FLAGS));
        let mut draft = cluster.draft();
        let mut both = Vec::new();
        for program in [tools.join("etcd"), programs::ketch()] {
            let mut founders = Vec::new();
            for at in 0..3 {
                founders.push(cluster.id(at).await);
            }
            let away = dir.path().join(program.file_name().unwrap());
            let told = tokio::task::block_in_place(|| refusals(&mut cluster, &mut draft, &away));
            both.push((told, founders));
            if both.len() == 1 {
                tokio::task::block_in_place(|| cluster.again(programs::ketch()));
            }
        }
        let [(etcd, founders), (ketch, _)] = &both[..] else { unreachable!() };
        for ((what, etcd), (_, ketch)) in etcd.iter().zip(ketch) {
            println!("{what}: {} {}", etcd.0.unwrap_or(-1), etcd.1);
            assert_eq!(etcd.0, ketch.0, "{what}: {etcd:?} {ketch:?}");
            assert_eq!(
                masked(&etcd.1, founders),
                masked(&ketch.1, founders),
                "{what}:\n{}\n{}",
                etcd.1,
                ketch.1
            );
        }
    });
}

/// It founds a cluster of its own that names a member of another one: each of them says so, and neither is disturbed.
#[test]
fn a_member_of_another_cluster_is_not_listened_to() {
    at_both(FLAGS, "a_member_of_another_cluster_is_not_listened_to", async |who, mut cluster| {
        let mut draft = cluster.draft();
        draft.birth =
            ("new", format!("m1={},{}={}", cluster.members[0].peer_url(), draft.name, draft.peer_url()));
        draft.set_extra(["--initial-cluster-token=another"]);
        let leader = cluster.leader().await;
        let process = Process::spawn(&mut cluster.command(&draft));
        let complains = tokio::task::block_in_place(|| process.await_line("cluster ID mismatch"));
        assert!(complains, "{who}: {}", process.log());
        assert!(!process.log().contains(READY), "{who}: {}", process.log());
        drop(process);
        cluster.agree().await;
        assert_eq!(cluster.leader().await, leader, "{who}");
    });
}

//! What flags do when members of a cluster start.

use crate::both::at_both;
use crate::members::Cluster;

/// Written by etcd, and by ketch, when the first election is brought forward, and when it is not.
const ADVANCES: &str = "initialized peer connections; fast-forwarding election ticks";
const SKIPS: &str = "skipping initial election tick advance";

#[test]
fn the_first_election_is_brought_forward_unless_the_flag_says_no() {
    let test = "the_first_election_is_brought_forward_unless_the_flag_says_no";
    for (flag, says, says_not) in [("true", ADVANCES, SKIPS), ("false", SKIPS, ADVANCES)] {
        let flag = format!("--initial-election-tick-advance={flag}");
        let flags = ["--heartbeat-interval=100", "--election-timeout=1000", &flag];
        at_both(&flags, test, async |who, cluster: Cluster| {
            for member in &cluster.members {
                let process = member.process.as_ref().unwrap();
                let found = tokio::task::block_in_place(|| process.await_line(says));
                assert!(found && !process.log().contains(says_not), "{who}, {flag}: {}", process.log());
                assert!(!process.log().contains("has no effect"), "{who}, {flag}: {}", process.log());
            }
        });
    }
}

/// Peers that talk over sockets in the file system; members given twice, and URLs in one flag or two, mean the same.
#[test]
fn peers_meet_over_unix_sockets_and_a_flag_given_twice_counts_once() {
    use crate::harness::process::{Process, READY};
    use crate::harness::{ports, programs};
    use crate::members::{channel, eventually, put};
    use crate::run::runtime;

    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let url = |at: usize| format!("unix://{}/{at}.sock", dir.path().display());
        let list = (1..=3).map(|at| format!("u{at}={}", url(at))).collect::<Vec<_>>().join(",");
        let mut members = Vec::new();
        for at in 1..=3 {
            let client = format!("http://127.0.0.1:{}", ports::free());
            let mut command = std::process::Command::new(programs::ketch());
            command
                // The last one counts.
                .args(["--name", "somebody", "--name", &format!("u{at}")])
                .arg("--data-dir")
                .arg(dir.path().join(format!("data{at}")))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &url(at), "--initial-advertise-peer-urls", &url(at)])
                .args(["--initial-cluster", "u1=http://127.0.0.1:1", "--initial-cluster", &list])
                .args(["--max-wals", "0", "--max-wals", "7"]);
            members.push((client, Process::spawn(&mut command)));
        }
        for (_, process) in &members {
            let ready = tokio::task::block_in_place(|| process.await_line(READY));
            assert!(ready, "{}", process.log());
        }
        for (client, _) in &members {
            let channel = channel(client);
            eventually("a put", async || put(channel.clone(), "x/unix", client).await).await;
        }
    });
}

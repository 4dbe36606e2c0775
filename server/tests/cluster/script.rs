//! One script of etcdctl commands at three members, of the real etcd and then of ketch on the same ports, with the same answers.
//!
//! Members have the same URLs, so the same ids. What is masked besides what the script of a single member masks (`it::script`): ports, the ids
//! of members that join, raft's terms and indexes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::programs;
use crate::members::{Cluster, Member, eventually, status};
use crate::run::runtime;

#[path = "../it/script/mask.rs"]
mod mask;
#[path = "../it/script/parse.rs"]
mod parse;
mod play;

use play::Play;

const FLAGS: &[&str] = &["--heartbeat-interval=100", "--election-timeout=1000"];

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

#[test]
fn etcdctl_sees_no_difference_in_a_cluster() {
    let Some(tools) = programs::real_etcd("etcdctl_sees_no_difference_in_a_cluster") else { return };
    let steps = parse::parse(include_str!("commands.txt"));
    let (etcd, ketch) = runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(tools.join("etcd"), 3, FLAGS));
        let mut play = Play::new(cluster, tools.join("etcdctl"));
        let etcd = play.all(&steps).await;
        let mut play = play.again(programs::ketch());
        (etcd, play.all(&steps).await)
    });
    let mut differences = Vec::new();
    let (mut commands, mut refused) = (0, 0);
    for (step, (etcd, ketch)) in steps.iter().zip(etcd.iter().zip(&ketch)) {
        let (Some(etcd), Some(ketch)) = (etcd, ketch) else { continue };
        commands += 1;
        refused += usize::from(etcd.code.is_some_and(|code| code != 0));
        if etcd != ketch {
            differences
                .push(format!("line {}: {}\n etcd: {etcd:#?}\nketch: {ketch:#?}", step.line, step.text));
        }
    }
    println!("{commands} commands, {refused} of them refused");
    assert!(
        commands >= 100 && (20..=commands / 2).contains(&refused),
        "{commands} commands, {refused} refused"
    );
    let found = differences.len();
    assert!(differences.is_empty(), "{found} of {commands} commands differ:\n{}", differences.join("\n\n"));
}

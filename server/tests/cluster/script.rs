//! One script of etcdctl commands at three members, of the real etcd and then of ketch on the same ports, with the same answers.
//!
//! Members have the same URLs, so the same ids. What is masked besides what the script of a single member masks (`it::script`): ports, the ids
//! of members that join, raft's terms and indexes.

mod play;

use std::path::Path;

use crate::harness::programs;
use crate::harness::script::{assert_same, parse};
use crate::members::Cluster;
use crate::run::runtime;

use play::Play;

const FLAGS: &[&str] = &["--heartbeat-interval=100", "--election-timeout=1000"];

#[test]
fn etcdctl_sees_no_difference_in_a_cluster() {
    let Some(tools) = programs::real_etcd("etcdctl_sees_no_difference_in_a_cluster") else { return };
    let (commands, refused) = same(tools, include_str!("commands.txt"), &[]);
    assert!(
        commands >= 100 && (20..=commands / 2).contains(&refused),
        "{commands} commands, {refused} refused"
    );
}

/// Plays a script at both with these flags, and fails if an outcome differs. Returns how many outcomes there were, and how many of
/// them were refusals.
pub(crate) fn same(tools: &Path, script: &str, flags: &[&str]) -> (usize, usize) {
    let steps = parse(script);
    let flags: Vec<&str> = FLAGS.iter().chain(flags).copied().collect();
    let (etcd, ketch) = runtime().block_on(async {
        let cluster = tokio::task::block_in_place(|| Cluster::found(tools.join("etcd"), 3, &flags));
        let mut play = Play::new(cluster, tools.join("etcdctl"));
        let etcd = play.all(&steps).await;
        let mut play = play.again(programs::ketch());
        (etcd, play.all(&steps).await)
    });
    let compared: Vec<_> = steps
        .iter()
        .zip(etcd.iter().zip(&ketch))
        .filter_map(|(step, (etcd, ketch))| Some((step, etcd.as_ref()?, ketch.as_ref()?)))
        .collect();
    let refused = compared.iter().filter(|(_, etcd, _)| etcd.is_refusal()).count();
    let commands = compared.len();
    println!("{commands} commands, {refused} of them refused");
    assert_same(compared.into_iter());
    (commands, refused)
}

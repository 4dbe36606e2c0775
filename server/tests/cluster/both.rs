//! Stories that are played by members of the real etcd and by as many of ketch.

use crate::harness::programs;
use crate::members::Cluster;
use crate::run::runtime;

/// Runs a story at three members of etcd, where it is there, and at three of ketch.
pub(crate) fn at_both(flags: &[&str], test: &str, story: impl AsyncFn(&str, Cluster) + Sync) {
    so_many_at_both(3, flags, test, story);
}

/// The same with so many members.
pub(crate) fn so_many_at_both(
    members: usize,
    flags: &[&str],
    test: &str,
    story: impl AsyncFn(&str, Cluster) + Sync,
) {
    let etcd = programs::real_etcd(test).map(|dir| ("etcd", dir.join("etcd")));
    let programs = etcd.into_iter().chain([("ketch", programs::ketch())]);
    std::thread::scope(|scope| {
        for (name, program) in programs {
            let story = &story;
            scope.spawn(move || {
                runtime().block_on(async {
                    let cluster = tokio::task::block_in_place(|| Cluster::found(program, members, flags));
                    story(name, cluster).await;
                });
            });
        }
    });
}

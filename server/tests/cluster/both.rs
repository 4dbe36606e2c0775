//! Stories that are played by three members of the real etcd and by three of ketch.

use crate::harness::programs;
use crate::members::Cluster;
use crate::run::runtime;

/// Runs a story at etcd, where it is there, and at ketch.
pub(crate) fn at_both(flags: &[&str], test: &str, story: impl AsyncFn(&str, Cluster) + Sync) {
    let etcd = programs::real_etcd(test).map(|dir| ("etcd", dir.join("etcd")));
    let programs = etcd.into_iter().chain([("ketch", programs::ketch())]);
    std::thread::scope(|scope| {
        for (name, program) in programs {
            let story = &story;
            scope.spawn(move || {
                runtime().block_on(async {
                    let cluster = tokio::task::block_in_place(|| Cluster::found(program, 3, flags));
                    story(name, cluster).await;
                });
            });
        }
    });
}

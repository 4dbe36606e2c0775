//! Every family of the page: its name, type and help line.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use super::text::Page;
use super::{Counter, GrpcMetrics, Metrics, STATIONS, process};
use crate::version;

pub(crate) fn page(metrics: &Metrics) -> String {
    let mut page = Page::default();
    versions(&mut page, metrics);
    store(&mut page, metrics);
    watches(&mut page, metrics);
    disk(&mut page, metrics);
    proposals(&mut page, metrics);
    health(&mut page, metrics);
    let grpc = &metrics.grpc;
    let received = "Bytes of messages received from gRPC clients";
    page.counter("etcd_network_client_grpc_received_bytes_total", received, &grpc.received_bytes);
    let sent = "Bytes of messages sent to gRPC clients";
    page.counter("etcd_network_client_grpc_sent_bytes_total", sent, &grpc.sent_bytes);
    metrics.compaction.render(&mut page);
    metrics.streams.render(&mut page);
    metrics.member.render(&mut page);
    metrics.requests.render(&mut page);
    metrics.peers.render(&mut page);
    grpc.render(&mut page);
    process::render(&mut page);
    page.finish()
}

fn versions(page: &mut Page, metrics: &Metrics) {
    let cluster = metrics.cluster_version.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(version) = cluster {
        page.family("etcd_cluster_version", "gauge", "1, with the version that the members agreed on")
            .sample(&[("cluster_version", &version)], 1);
    }
    if let Some(id) = metrics.server_id.get() {
        page.family("etcd_server_id", "gauge", "1, with the id of this member")
            .sample(&[("server_id", id)], 1);
    }
    page.family("etcd_server_version", "gauge", "1, with the version whose API this server speaks")
        .sample(&[("server_version", version::SERVER)], 1);
}

fn store(page: &mut Page, metrics: &Metrics) {
    let compacted = "Revision of the last compaction";
    page.gauge("etcd_debugging_mvcc_compact_revision", compacted, &metrics.compact_revision);
    page.gauge("etcd_debugging_mvcc_current_revision", "Current revision", &metrics.current_revision);
    page.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist", &metrics.keys);
    let put = "Bytes of keys and values that were put";
    page.growing_gauge("etcd_debugging_mvcc_total_put_size_in_bytes", put, &metrics.put_bytes);
    alarms(page, metrics);
    page.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes that the store takes on disk",
        &metrics.db_total_bytes,
    );
    let in_use = "Bytes of what the store holds";
    page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", in_use, &metrics.db_in_use_bytes);
    page.histogram("etcd_mvcc_hash_duration_seconds", "Time to hash everything", &metrics.hash);
    let rev = "Time to hash the keys at a revision";
    page.histogram("etcd_mvcc_hash_rev_duration_seconds", rev, &metrics.hash_rev);
    if metrics.counts_applied.load(Relaxed) {
        operations(page, metrics);
    }
}

fn watches(page: &mut Page, metrics: &Metrics) {
    page.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers", &metrics.watch_events);
    let pending = "Events that watchers have not taken yet";
    page.gauge("etcd_debugging_mvcc_pending_events_total", pending, &metrics.pending_events);
    page.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that are behind", &metrics.slow_watchers);
    page.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams", &metrics.watch_streams);
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watches on all streams", &metrics.watchers);
}

fn alarms(page: &mut Page, metrics: &Metrics) {
    let alarms = metrics.alarms.lock().unwrap_or_else(PoisonError::into_inner);
    if alarms.is_empty() {
        return;
    }
    let mut family = page.family("etcd_debugging_server_alarms", "gauge", "1 if an alarm is raised");
    for ((alarm, member), raised) in alarms.iter() {
        family.sample(&[("alarm_type", alarm), ("server_id", member)], u8::from(*raised));
    }
}

/// What was done to the store. Ranges are those that answered an RPC, and those inside transactions.
fn operations(page: &mut Page, metrics: &Metrics) {
    page.counter("etcd_mvcc_delete_total", "Deletes", &metrics.delete);
    page.counter("etcd_mvcc_put_total", "Puts", &metrics.put);
    let ranges = GrpcMetrics::index_of("/etcdserverpb.KV/Range")
        .and_then(|index| metrics.grpc.method(index))
        .and_then(|method| method.handled.first())
        .map_or(0, Counter::get);
    page.family("etcd_mvcc_range_total", "counter", "Ranges read")
        .sample(&[], ranges + metrics.txn_range.get());
    page.counter("etcd_mvcc_txn_total", "Transactions of several operations", &metrics.txn);
}

fn disk(page: &mut Page, metrics: &Metrics) {
    let commit = "Time to commit a batch of applied commands to the store";
    page.histogram("etcd_disk_backend_commit_duration_seconds", commit, &metrics.backend_commit);
    let snapshot = "Time to send a snapshot to a client";
    page.histogram("etcd_disk_backend_snapshot_duration_seconds", snapshot, &metrics.backend_snapshot);
    page.histogram("etcd_disk_wal_fsync_duration_seconds", "Time to sync the raft log", &metrics.wal_fsync);
    // A gauge in etcd too, though it only grows.
    page.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the raft log", &metrics.wal_write_bytes);
    let write = "Time to hand to the system what is written to the raft log before one sync";
    page.histogram("etcd_disk_wal_write_duration_seconds", write, &metrics.wal_write);
    let sync = "Time to make a snapshot from a peer durable";
    page.histogram("etcd_snap_db_fsync_duration_seconds", sync, &metrics.snapshot_sync);
    let save = "Time to take in a snapshot from a peer";
    page.histogram("etcd_snap_db_save_total_duration_seconds", save, &metrics.snapshot_save);
    let apply = "Snapshots that take the store's place right now";
    page.gauge("etcd_server_snapshot_apply_in_progress_total", apply, &metrics.snapshot_apply);
}

fn proposals(page: &mut Page, metrics: &Metrics) {
    metrics.apply.render(page);
    let late = "Heartbeats that left late: the member is overloaded, or its threads are held up";
    page.counter("etcd_server_heartbeat_send_failures_total", late, &metrics.heartbeats_late);
    let failed = "Questions for a read index that raft refused or that a change of leader overtook";
    page.counter("etcd_server_read_indexes_failed_total", failed, &metrics.read_indexes_failed);
    let slow = "Reads that waited for their index in vain";
    page.counter("etcd_server_slow_read_indexes_total", slow, &metrics.read_indexes_slow);
    page.gauge("etcd_server_has_leader", "1 if there is a leader", &metrics.has_leader);
    page.gauge("etcd_server_is_leader", "1 if this member leads", &metrics.is_leader);
    page.gauge("etcd_server_is_learner", "1 if this member is a learner", &metrics.is_learner);
    let changes = "Changes of leader seen by this member";
    page.counter("etcd_server_leader_changes_seen_total", changes, &metrics.leader_changes_seen);
    let applied = "Proposals applied by this member";
    page.gauge("etcd_server_proposals_applied_total", applied, &metrics.proposals_applied);
    page.gauge("etcd_server_proposals_committed_total", "Proposals committed", &metrics.proposals_committed);
    page.counter("etcd_server_proposals_failed_total", "Proposals that failed", &metrics.proposals_failed);
    page.gauge("etcd_server_proposals_pending", "Proposals not answered yet", &metrics.proposals_pending);
    let parked = "Proposals that wait for a leader to take them";
    page.gauge("ketch_server_proposals_parked", parked, &metrics.proposals_parked);
    let reads = "Linearizable reads that wait for their index, or until it is applied";
    page.gauge("ketch_server_reads_waiting", reads, &metrics.reads_waiting);
    let mut family = page.family("ketch_server_queue_length", "gauge", "What waits on a command's way");
    for (station, length) in STATIONS.iter().zip(&metrics.queues) {
        family.sample(&[("station", station)], length.get().unwrap_or(0));
    }
    page.gauge("etcd_server_quota_backend_bytes", "Space quota of the store in bytes", &metrics.quota_bytes);
    let slow = "Commands and reads that took too long";
    page.counter("etcd_server_slow_apply_total", slow, &metrics.slow_apply);
}

fn health(page: &mut Page, metrics: &Metrics) {
    page.counter(
        "etcd_server_health_failures",
        "Answers of /health that were false",
        &metrics.health_failures,
    );
    page.counter("etcd_server_health_success", "Answers of /health that were true", &metrics.health_success);
    let used = || metrics.checks.iter().filter(|(_, _, counts)| counts.last.get().is_some());
    if used().next().is_none() {
        return;
    }
    let mut family = page.family("etcd_server_healthcheck", "gauge", "Last outcome of a probe");
    for (kind, name, counts) in used() {
        family.sample(&[("name", name), ("type", kind)], counts.last.get().unwrap_or(0));
    }
    let mut family = page.family("etcd_server_healthchecks_total", "counter", "Outcomes of a probe");
    for (kind, name, counts) in used() {
        for (status, count) in [("error", &counts.error), ("success", &counts.success)] {
            if count.get() > 0 {
                family.sample(&[("name", name), ("status", status), ("type", kind)], count.get());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use ketch_proto::etcdserverpb::InternalRaftRequest;

    use super::*;
    use crate::apply::answer::Answer;
    use crate::apply::tally::Tally;
    use crate::metrics::{Asked, CallKind, Feature};

    #[test]
    fn each_family_has_one_head_and_unmeasured_gauges_are_absent() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("etcd_server_has_leader"));
        metrics.on_scrape(|metrics| metrics.has_leader.set_bool(true));
        metrics.set_server_id(0x2e);
        metrics.set_cluster_version("3.7.0");
        metrics.set_alarms([("CORRUPT".to_owned(), 9)]);
        metrics.set_alarms([("NOSPACE".to_owned(), 0x2e)]);
        let page = metrics.render();
        for line in [
            "etcd_debugging_server_alarms{alarm_type=\"CORRUPT\",server_id=\"9\"} 0",
            "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"2e\"} 1",
            "etcd_server_has_leader 1",
            "etcd_server_id{server_id=\"2e\"} 1",
            "etcd_cluster_version{cluster_version=\"3.7\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0",
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing");
        }
        let mut heads = BTreeSet::new();
        for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert!(heads.insert(name), "{name} twice");
        }
        assert!(!page.contains("v3lockpb"), "a service that nobody has called");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_document_lists_every_family_and_no_other() {
        let metrics = Metrics::extensive();
        for gauge in [
            &metrics.wal_write_bytes,
            &metrics.proposals_committed,
            &metrics.proposals_applied,
            &metrics.has_leader,
            &metrics.is_leader,
            &metrics.is_learner,
            &metrics.quota_bytes,
            &metrics.db_total_bytes,
            &metrics.db_in_use_bytes,
            &metrics.current_revision,
            &metrics.compact_revision,
            &metrics.keys,
            &metrics.checks[0].2.last,
        ] {
            gauge.set(1);
        }
        metrics.count_applied(&[]);
        let mut tally = Tally::default();
        tally.add(&InternalRaftRequest::default(), &Ok(Answer::Done));
        metrics.apply.observe(&tally, Duration::ZERO);
        metrics.set_alarms([("NOSPACE".to_owned(), 1)]);
        metrics.member.set_features(vec![Feature { name: "AllBeta", stage: "BETA", on: false }]);
        metrics.member.set_known(1, [1], []);
        metrics.member.count_promotion(Some("not a learner".to_owned()));
        metrics.streams.watch_receive.inc();
        metrics.requests.observe(Asked::Range, true, Duration::ZERO, 1);
        metrics.requests.observe_ranges(true, Duration::ZERO, 1);
        metrics.requests.of_version(CallKind::Unary, "3.7").inc();
        metrics.set_server_id(1);
        metrics.set_cluster_version("3.7");
        let page = metrics.render();
        let families: BTreeSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, _)| name)
            .collect();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
        let Ok(document) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: {} is not part of this package", path.display());
            return;
        };
        let section = document.split("<!-- metrics: begin -->").nth(1).unwrap();
        let section = section.split("<!-- metrics: end -->").next().unwrap();
        let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
        let listed: BTreeSet<&str> =
            names.flat_map(|(names, _)| names.split(", ")).map(|name| name.trim_matches('`')).collect();
        assert_eq!(listed, families);
    }
}

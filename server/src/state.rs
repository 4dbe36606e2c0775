//! What a member shows to those who only look: ids, raft's standing, the cluster, the published store.
//!
//! Written by the threads that own the cores, read by everybody without waiting for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use ketch_mvcc::Reader;
use ketch_proto::etcdserverpb::{AlarmMember, ResponseHeader};

use tokio::sync::watch;

use crate::apply::cluster::Cluster;
use crate::apply::hashes::CompactionHashes;
use crate::clock;
use crate::consensus::core::Standing;
use crate::late::Leadership;

/// The published state of one member.
#[derive(Debug)]
pub struct Shared {
    /// This member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The store's published roots.
    pub reader: Reader,
    /// The hashes of the last compactions.
    pub hashes: Arc<CompactionHashes>,
    term: AtomicU64,
    leader: AtomicU64,
    leadership: RwLock<Leadership>,
    commit: AtomicU64,
    applied: AtomicU64,
    leader_changes: AtomicU64,
    parked: AtomicU64,
    is_learner: AtomicBool,
    alone: AtomicBool,
    used_bytes: AtomicU64,
    disk_is_short: AtomicBool,
    /// Held while this member raises an alarm: of many requests that find the store full, one does.
    pub raising_alarm: tokio::sync::Mutex<()>,
    /// The leader; 0 while none is known.
    pub leader_changed: watch::Sender<u64>,
    /// Up to where compaction is physically done.
    pub compacted: watch::Sender<i64>,
    /// How many snapshots took the place of the store. What a snapshot holds of this member's own commands is not answered any more.
    pub installed: watch::Sender<u64>,
    cluster: RwLock<Arc<Cluster>>,
    alarms: RwLock<Arc<Vec<AlarmMember>>>,
}

impl Shared {
    /// The state of member `member_id` of cluster `cluster_id` before it has said anything.
    #[must_use]
    pub fn new(member_id: u64, cluster_id: u64, reader: Reader, hashes: Arc<CompactionHashes>) -> Shared {
        Shared {
            member_id,
            cluster_id,
            reader,
            hashes,
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leadership: RwLock::default(),
            commit: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            is_learner: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            used_bytes: AtomicU64::new(0),
            disk_is_short: AtomicBool::new(false),
            raising_alarm: tokio::sync::Mutex::default(),
            leader_changed: watch::Sender::new(0),
            compacted: watch::Sender::new(-1),
            installed: watch::Sender::new(0),
            cluster: RwLock::default(),
            alarms: RwLock::default(),
        }
    }

    /// Publishes raft's standing.
    pub fn set_standing(&self, standing: Standing) {
        if !standing.alone {
            self.alone.store(false, Ordering::SeqCst);
        }
        self.term.store(standing.term, Ordering::Relaxed);
        if self.leader.swap(standing.leader, Ordering::Relaxed) != standing.leader {
            let now = clock::now();
            let mut known = write(&self.leadership);
            let elected = if standing.leader == 0 { known.elected } else { Some(now) };
            *known = Leadership { leader: standing.leader, since: Some(now), elected };
            drop(known);
            self.leader_changed.send_replace(standing.leader);
        }
        self.commit.store(standing.commit, Ordering::Release);
        self.leader_changes.store(standing.leader_changes, Ordering::Relaxed);
        self.parked.store(standing.parked, Ordering::Relaxed);
        self.is_learner.store(standing.is_learner, Ordering::Relaxed);
        // Whoever sees it sees what is committed too.
        if standing.alone {
            self.alone.store(true, Ordering::Release);
        }
    }

    /// Publishes how far the store has come. Everything up to `index` can be read from [`Self::reader`].
    pub fn set_applied(&self, index: u64) {
        self.applied.store(index, Ordering::SeqCst);
    }

    /// Publishes how large the store is, in logical bytes.
    pub fn set_used_bytes(&self, bytes: u64) {
        self.used_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Publishes whether the disk has less free space than the member keeps in reserve.
    pub fn set_disk_is_short(&self, short: bool) {
        self.disk_is_short.store(short, Ordering::Relaxed);
    }

    /// Publishes the cluster and its alarms.
    pub fn set_cluster(&self, cluster: Cluster, alarms: Vec<AlarmMember>) {
        *write(&self.cluster) = Arc::new(cluster);
        *write(&self.alarms) = Arc::new(alarms);
    }

    /// Raft's standing.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            term: self.term.load(Ordering::Relaxed),
            leader: self.leader.load(Ordering::Relaxed),
            commit: self.commit.load(Ordering::Relaxed),
            leader_changes: self.leader_changes.load(Ordering::Relaxed),
            parked: self.parked.load(Ordering::Relaxed),
            is_learner: self.is_learner.load(Ordering::Relaxed),
            alone: self.alone.load(Ordering::Relaxed),
        }
    }

    /// Whether this member leads alone; see [`Standing::alone`].
    #[must_use]
    pub fn leads_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// Whether the published store holds all that is committed anywhere: a read needs to ask nobody. True only where one
    /// member decides alone; it publishes that it no longer does before anybody else can commit.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.leads_alone() && self.commit.load(Ordering::Acquire) <= self.applied()
    }

    /// Who leads, and since when.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        *read(&self.leadership)
    }

    /// The index of the last entry whose effect is visible.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// How large the store is, in logical bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether the disk has less free space than the member keeps in reserve.
    #[must_use]
    pub fn disk_is_short(&self) -> bool {
        self.disk_is_short.load(Ordering::Relaxed)
    }

    /// The cluster as of the last applied entry.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&read(&self.cluster))
    }

    /// The alarms that are raised.
    #[must_use]
    pub fn alarms(&self) -> Arc<Vec<AlarmMember>> {
        Arc::clone(&read(&self.alarms))
    }

    /// The header of an answer that rests on `revision`.
    #[must_use]
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.term.load(Ordering::Relaxed),
        }
    }
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! What a member knows of one peer: where it is, which start of it speaks, its lanes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ketch_raft::{Body, NO_ROUND, NodeId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lane::{Lane, Limit};
use crate::clock;
use crate::config::Url;
use crate::metrics::PeerMeter;
use crate::serve::Socket;
use crate::sync::lock;

/// What may wait for the urgent lane: messages of a few dozen bytes.
const URGENT: Limit = Limit { bytes: 1 << 20, frames: 8192 };
/// What may wait for the append lane. Raft's flow control has less in flight to a peer that answers.
const APPEND: Limit = Limit { bytes: 72 << 20, frames: 1024 };

/// The lanes that stay connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Everything small: heartbeats, votes, reads, answers.
    Urgent = 1,
    /// Entries.
    Append = 2,
}

impl LaneKind {
    /// Its name in paths and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LaneKind::Urgent => "urgent",
            LaneKind::Append => "append",
        }
    }

    /// The lane of this name, if it is one that stays.
    pub(crate) fn of_name(name: &str) -> Option<LaneKind> {
        [LaneKind::Urgent, LaneKind::Append].into_iter().find(|which| which.name() == name)
    }

    /// The lane that carries `body`. All appends go the same way, those without entries too: one that overtakes others
    /// would be refused and cost the leader its pipeline. What only tells of a commit goes with them: who has nothing else to do may
    /// apply it on the thread that reads it, and heartbeats do not wait for that.
    pub(crate) fn of(body: &Body) -> LaneKind {
        match body {
            Body::Append { .. } | Body::Propose { .. } | Body::Heartbeat { round: NO_ROUND, .. } => {
                LaneKind::Append
            }
            _ => LaneKind::Urgent,
        }
    }
}

/// What a peer's tasks shall do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// End: the peer is no member any more, or this member stops.
    pub(crate) unwanted: bool,
    /// Connections to an earlier start of the peer are over.
    pub(crate) boot: u64,
    /// Changes whenever it is worth to dial at once.
    pub(crate) nudges: u64,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) meter: Arc<PeerMeter>,
    urls: Mutex<Vec<Url>>,
    urgent: Lane,
    append: Lane,
    wish: watch::Sender<Wish>,
    connected: Mutex<Connected>,
    /// Its lanes for entries, which threads wait for.
    accepted: Mutex<Vec<Accepted>>,
    /// Snapshots under way to it.
    pub(crate) snapshots: AtomicUsize,
}

/// A lane for entries from the peer, which a thread waits for.
#[derive(Debug)]
struct Accepted {
    boot: u64,
    socket: Arc<Socket>,
}

#[derive(Debug, Default)]
struct Connected {
    lanes: u32,
    since: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(id: NodeId, urls: Vec<Url>, meter: Arc<PeerMeter>) -> Peer {
        Peer {
            id,
            meter,
            urls: Mutex::new(urls),
            urgent: Lane::new(URGENT),
            append: Lane::new(APPEND),
            wish: watch::Sender::default(),
            connected: Mutex::default(),
            accepted: Mutex::default(),
            snapshots: AtomicUsize::new(0),
        }
    }

    pub(crate) fn lane(&self, which: LaneKind) -> &Lane {
        match which {
            LaneKind::Urgent => &self.urgent,
            LaneKind::Append => &self.append,
        }
    }

    /// The URL for the given attempt: each in turn.
    pub(crate) fn url(&self, attempt: usize) -> Option<Url> {
        let urls = lock(&self.urls);
        urls.get(attempt % urls.len().max(1)).cloned()
    }

    /// The peer moved; connections that stand are left alone.
    pub(crate) fn set_urls(&self, urls: Vec<Url>) {
        let moved = std::mem::replace(&mut *lock(&self.urls), urls.clone()) != urls;
        if moved {
            self.nudge();
        }
    }

    /// Notes the start of the peer that speaks; false if a later one was heard already.
    pub(crate) fn note_boot(&self, boot: u64) -> bool {
        self.wish.send_if_modified(|wish| {
            let newer = boot > wish.boot;
            wish.boot = wish.boot.max(boot);
            newer
        });
        self.hang_up(|lane| lane.boot < boot);
        self.wish.borrow().boot == boot
    }

    /// A lane for entries from start `boot` of the peer stands. It has one: an earlier one, of whose end nothing was heard, is over.
    pub(crate) fn take_in(&self, boot: u64, socket: &Arc<Socket>) {
        self.hang_up(|lane| lane.boot <= boot);
        lock(&self.accepted).push(Accepted { boot, socket: Arc::clone(socket) });
    }

    /// The lane is over.
    pub(crate) fn let_go(&self, socket: &Arc<Socket>) {
        self.hang_up(|lane| Arc::ptr_eq(&lane.socket, socket));
    }

    /// Ends these lanes from the peer, and the waiting of their threads.
    fn hang_up(&self, over: impl Fn(&Accepted) -> bool) {
        lock(&self.accepted).extract_if(.., |lane| over(lane)).for_each(|lane| lane.socket.shutdown());
    }

    /// It is worth to dial at once.
    pub(crate) fn nudge(&self) {
        self.wish.send_modify(|wish| wish.nudges += 1);
    }

    /// Ends all tasks of the peer.
    pub(crate) fn end(&self) {
        self.wish.send_modify(|wish| wish.unwanted = true);
        self.hang_up(|_all| true);
    }

    pub(crate) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Notes that a lane stands, or no longer does.
    pub(crate) fn set_connected(&self, which: LaneKind, stands: bool) {
        let mut connected = lock(&self.connected);
        let bit = which as u32;
        connected.lanes = if stands { connected.lanes | bit } else { connected.lanes & !bit };
        if which == LaneKind::Urgent {
            connected.since = stands.then(clock::now);
            self.meter.active.set_bool(stands);
            if !stands {
                self.meter.disconnected.inc();
            }
        }
    }

    /// Since when small messages reach it.
    pub(crate) fn connected_since(&self) -> Option<Instant> {
        lock(&self.connected).since
    }

    /// Whether both lanes stand.
    pub(crate) fn is_whole(&self) -> bool {
        lock(&self.connected).lanes == LaneKind::Urgent as u32 | LaneKind::Append as u32
    }

    /// Begins a snapshot, unless one is under way.
    pub(crate) fn begin_snapshot(&self) -> bool {
        self.snapshots.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The snapshot is over.
    pub(crate) fn end_snapshot(&self) {
        self.snapshots.store(0, Ordering::SeqCst);
    }
}

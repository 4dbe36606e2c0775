//! `Maintenance.Snapshot`: the bytes of a snapshot file, as fast as the client takes them.
//!
//! The stream holds one pinned view; writes go on. A piece is read only when the one before it is on its way, so a slow
//! client costs one piece of memory and no thread, and one that goes away frees everything at once. One that stays and takes
//! nothing is given up after a while: a pinned view keeps compaction from giving space back.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ketch_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use ketch_proto::rpc_error::RpcError;
use tokio::task::JoinHandle;
use tokio_stream::Stream;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::aside::Aside;
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::snapshot::source::Source;
use crate::sync::lock;
use crate::versions::{self, ClusterVersion};

/// Bytes of one message, as etcd sends them.
const MESSAGE_BYTES: usize = 32 << 10;
/// A client that takes no message between two looks, so far apart, is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// `Maintenance.Snapshot`.
pub async fn snapshot(
    api: Arc<Api>,
    _context: Context,
    _request: SnapshotRequest,
) -> Result<SnapshotStream, ApiError> {
    let view = api.shared.reader.view();
    let version = versions::storage(&api.shared.cluster());
    let numbers = ClusterVersion::parse(&version).map_or((0, 0), ClusterVersion::numbers);
    tracing::info!(
        revision = view.revision(),
        storage_version = version,
        "sending database snapshot to client"
    );
    Ok(SnapshotStream {
        pinned: Pinned::new(Source::new(&view, numbers)?),
        reading: None,
        metrics: Arc::clone(&api.metrics),
        aside: Arc::clone(&api.aside),
        piece: Bytes::new(),
        sent: 0,
        total: 0,
        version,
        watch: Stopwatch::start(),
    })
}

/// The stream of a snapshot's messages; the last one holds the file's checksum alone.
pub struct SnapshotStream {
    pinned: Arc<Pinned>,
    reading: Option<Reading>,
    metrics: Arc<Metrics>,
    aside: Arc<Aside>,
    /// What was read and not yet sent.
    piece: Bytes,
    sent: u64,
    /// Bytes before the checksum.
    total: u64,
    version: String,
    watch: Stopwatch,
}

type Reading = JoinHandle<(Box<Source>, Result<Option<Bytes>, ketch_mvcc::Fault>)>;

/// What a stream holds while nothing is read.
struct Pinned {
    source: Mutex<Option<Box<Source>>>,
    /// Messages that the client took, and pieces that were read for it.
    taken: AtomicU64,
}

impl Pinned {
    fn new(source: Source) -> Arc<Pinned> {
        let pinned =
            Arc::new(Pinned { source: Mutex::new(Some(Box::new(source))), taken: AtomicU64::new(0) });
        tokio::spawn(give_up(Arc::downgrade(&pinned), PATIENCE));
        pinned
    }
}

/// Lets go of what a stream holds whose client takes nothing.
async fn give_up(pinned: Weak<Pinned>, patience: Duration) {
    let mut seen = None;
    loop {
        tokio::time::sleep(patience).await;
        let Some(pinned) = pinned.upgrade() else { return };
        let taken = pinned.taken.load(Ordering::Relaxed);
        if seen == Some(taken) {
            tracing::warn!("giving up a snapshot whose client takes nothing");
            drop(lock(&pinned.source).take());
            return;
        }
        seen = Some(taken);
    }
}

impl SnapshotStream {
    /// Reads the next piece, on a thread that may wait for the disk.
    fn poll_piece(&mut self, task: &mut Task<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => {
                let Some(mut source) = lock(&self.pinned.source).take() else {
                    return Poll::Ready(Err(RpcError::TimedOut.into()));
                };
                self.aside.block(move || {
                    let piece = source.next_piece();
                    (source, piece)
                })
            }
        };
        let Poll::Ready(done) = Pin::new(&mut reading).poll(task) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let (source, piece) = done.map_err(|error| ApiError::Store(error.to_string()))?;
        self.total = source.total();
        self.pinned.taken.fetch_add(1, Ordering::Relaxed);
        *lock(&self.pinned.source) = Some(source);
        Poll::Ready(Ok(piece?))
    }

    fn message(&mut self) -> SnapshotResponse {
        let blob = self.piece.split_to(MESSAGE_BYTES.min(self.piece.len()));
        self.sent += blob.len() as u64;
        self.pinned.taken.fetch_add(1, Ordering::Relaxed);
        let remaining_bytes = self.total.saturating_sub(self.sent);
        SnapshotResponse { header: None, remaining_bytes, blob, version: self.version.clone() }
    }

    fn finished(&self) {
        self.metrics.backend_snapshot.observe(self.watch.elapsed());
        tracing::info!(bytes = self.sent, took = ?self.watch.elapsed(), "successfully sent database snapshot to client");
    }
}

impl Stream for SnapshotStream {
    type Item = Result<SnapshotResponse, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            match ready!(this.poll_piece(task)) {
                Ok(Some(piece)) => this.piece = piece,
                Ok(None) => {
                    if this.sent > this.total {
                        this.finished();
                    }
                    return Poll::Ready(None);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(Some(Ok(this.message())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_mvcc::Store;
    use std::path::Path;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let disk = ketch_wal::SimDisk::new(1);
        let store = Store::open(disk, Path::new("/s"), ketch_mvcc::Options::default()).unwrap();
        let pinned = Pinned::new(Source::new(&store.reader().view(), (3, 7)).unwrap());
        give_up(Arc::downgrade(&pinned), Duration::ZERO).await;
        assert!(lock(&pinned.source).is_none());
        let gone = Arc::downgrade(&pinned);
        drop(pinned);
        give_up(gone, Duration::ZERO).await;
    }
}

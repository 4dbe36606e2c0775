//! `Maintenance.Snapshot`: the bytes of a snapshot file, as fast as the client takes them.
//!
//! The stream holds one pinned view; writes go on. A piece is read only when the one before it is on its way, so a slow
//! client costs one piece of memory and no thread, and one that goes away frees everything at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use ketch_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use tokio::task::JoinHandle;
use tokio_stream::Stream;

use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::clock::Stopwatch;
use crate::metrics::Metrics;
use crate::snapshot::source::Source;
use crate::versions::{self, ClusterVersion};

/// Bytes of one message, as etcd sends them.
const MESSAGE_BYTES: usize = 32 << 10;

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
        source: State::Idle(Box::new(Source::new(&view, numbers)?)),
        metrics: Arc::clone(&api.metrics),
        piece: Bytes::new(),
        sent: 0,
        total: 0,
        version,
        watch: Stopwatch::start(),
    })
}

/// The stream of a snapshot's messages; the last one holds the file's checksum alone.
pub struct SnapshotStream {
    source: State,
    metrics: Arc<Metrics>,
    /// What was read and not yet sent.
    piece: Bytes,
    sent: u64,
    /// Bytes before the checksum.
    total: u64,
    version: String,
    watch: Stopwatch,
}

type Reading = JoinHandle<(Box<Source>, Result<Option<Bytes>, ketch_mvcc::Fault>)>;

enum State {
    Idle(Box<Source>),
    Reading(Reading),
    Over,
}

impl SnapshotStream {
    /// Reads the next piece, on a thread that may wait for the disk.
    fn poll_piece(&mut self, task: &mut Task<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        loop {
            match std::mem::replace(&mut self.source, State::Over) {
                State::Idle(mut source) => {
                    self.source = State::Reading(tokio::task::spawn_blocking(move || {
                        let piece = source.next_piece();
                        (source, piece)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready(done) = Pin::new(&mut reading).poll(task) else {
                        self.source = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let (source, piece) = done.map_err(|error| ApiError::Store(error.to_string()))?;
                    self.total = source.total();
                    let piece = piece?;
                    if piece.is_some() {
                        self.source = State::Idle(source);
                    }
                    return Poll::Ready(Ok(piece));
                }
                State::Over => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn message(&mut self) -> SnapshotResponse {
        let blob = self.piece.split_to(MESSAGE_BYTES.min(self.piece.len()));
        self.sent += blob.len() as u64;
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
                Err(error) => {
                    this.source = State::Over;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(Some(Ok(this.message())))
    }
}

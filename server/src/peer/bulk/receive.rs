//! The receiver of a snapshot.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ketch_mvcc::Held;
use ketch_raft::{Body, Message, SnapshotMeta};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::SILENCE_MAX;
use crate::clock::{self, Stopwatch};
use crate::metrics::Metrics;
use crate::peer::accept::{self, LaneError};
use crate::peer::frame::{self, Kind, Outgoing};
use crate::peer::handshake::Caller;
use crate::peer::network::Inner;
use crate::peer::table::Peer;
use crate::peer::{PING_EVERY, codec};
use crate::staging::{StageError, Staging};
use crate::stint;

/// Chunks that wait for the disk.
const WAITING_MAX: usize = 2;

/// How long a transfer may take to notice that a later leader's takes its place.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What the blocking thread says.
enum Progress {
    Begun(Held),
    Taken(u64),
    Done,
    Refused(String),
    Busy,
}

/// Takes in one snapshot and gives its message to raft.
pub(in crate::peer) async fn receive(
    net: &Arc<Inner>,
    peer: &Peer,
    caller: Caller,
    upgraded: Upgraded,
) -> Result<(), LaneError> {
    let mut receiver = Receiver { io: TokioIo::new(upgraded), buffer: BytesMut::new(), peer, caller };
    let (kind, body) = receiver.next().await?;
    if kind != Kind::Message {
        return Err(LaneError::Kind(kind));
    }
    let message = codec::decode(body).map_err(LaneError::Message)?;
    let Body::Snapshot { meta } = &message.body else { return Err(LaneError::Kind(kind)) };
    if message.to != net.identity.member_id {
        return Err(LaneError::Misdirected);
    }
    // A leader that went silent does not stand in the way of the one after it.
    net.snapshot_term.send_if_modified(|newest| {
        let newer = message.term > *newest;
        *newest = message.term.max(*newest);
        newer
    });
    let took = Stopwatch::start();
    let meter = &peer.meter.snapshot_receive;
    meter.inflights.inc();
    let outcome = receiver.take_in(net, meta.clone(), &message).await;
    meter.inflights.dec();
    let (from, index) = (format_args!("{:x}", peer.id).to_string(), meta.index);
    match &outcome {
        Ok(true) => {
            meter.duration.observe(took.elapsed());
            tracing::info!(from, index, took = ?took.elapsed(), "received a snapshot");
        }
        Ok(false) => meter.failures.inc(),
        Err(error) => {
            meter.failures.inc();
            tracing::warn!(from, index, %error, "a snapshot was cut off");
        }
    }
    outcome.map(drop)
}

/// Takes the chunks in, on a thread that may block. A transfer that is cut off is kept, to be resumed.
fn stage(
    staging: &Staging,
    meta: &SnapshotMeta,
    mut chunks: mpsc::Receiver<Bytes>,
    progress: &mpsc::UnboundedSender<Progress>,
    metrics: &Metrics,
) {
    // Where nobody listens any more there is nothing to say.
    let say = |what| drop(progress.send(what));
    let mut incoming = match staging.begin_in_turn(meta, HAND_OVER) {
        Ok(incoming) => incoming,
        Err(StageError::Busy) => return say(Progress::Busy),
        Err(error) => return say(Progress::Refused(error.to_string())),
    };
    let watch = Stopwatch::start();
    say(Progress::Begun(incoming.held()));
    while !incoming.is_complete() {
        let Some(chunk) = chunks.blocking_recv() else { return staging.suspend(incoming) };
        if let Err(error) = incoming.chunk(&chunk) {
            return say(Progress::Refused(error.to_string()));
        }
        say(Progress::Taken(chunk.len() as u64));
        stint::rest();
    }
    let sync = Stopwatch::start();
    say(match staging.finish(incoming) {
        Ok(()) => {
            metrics.snapshot_sync.observe(sync.elapsed());
            metrics.snapshot_save.observe(watch.elapsed());
            Progress::Done
        }
        Err(error) => Progress::Refused(error.to_string()),
    });
}

struct Receiver<'a> {
    io: TokioIo<Upgraded>,
    buffer: BytesMut,
    peer: &'a Peer,
    caller: Caller,
}

impl Receiver<'_> {
    async fn next(&mut self) -> Result<(Kind, Bytes), LaneError> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            accept::make_room(&mut self.buffer);
            let count = self.io.read_buf(&mut self.buffer).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.peer.meter.received_bytes.add(count as u64);
        }
    }

    async fn say(&mut self, kind: Kind, body: &[u8]) -> Result<(), LaneError> {
        let mut frame = Outgoing::default();
        frame.push(kind, |into| into.encoded.put_slice(body));
        Ok(self.io.write_all(&frame.into_bytes()).await?)
    }

    /// True when raft was given the message, false when the snapshot was refused.
    async fn take_in(
        &mut self,
        net: &Arc<Inner>,
        meta: SnapshotMeta,
        message: &Message,
    ) -> Result<bool, LaneError> {
        let (chunks, to_disk) = mpsc::channel(WAITING_MAX);
        // Bounded by what is said: see below. A limit of its own could make thread and task wait for each other.
        let (progress, mut progressed) = mpsc::unbounded_channel();
        let (staging, metrics) = (Arc::clone(&net.staging), Arc::clone(&net.metrics));
        tokio::task::spawn_blocking(move || stage(&staging, &meta, to_disk, &progress, &metrics));
        let mut newest = net.snapshot_term.subscribe();
        let mut wishes = self.peer.wishes();
        let mut ticks = tokio::time::interval(PING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = clock::now();
        while !accept::is_over(&wishes, self.caller) {
            // What the thread says first: so it says no more than the chunks that wait for it, and one, before the next one is read.
            tokio::select! {
                biased;
                _ = wishes.changed() => {}
                () = later(&mut newest, message.term) => {
                    return Err(io::Error::other("a later leader sends a snapshot").into());
                }
                said = progressed.recv() => match said {
                    Some(Progress::Begun(held)) => self.say(Kind::Held, &held.to_bytes()).await?,
                    Some(Progress::Taken(bytes)) => self.say(Kind::Taken, &bytes.to_le_bytes()).await?,
                    Some(Progress::Done) => {
                        net.inlet.messages(vec![message.clone()]);
                        self.say(Kind::Done, b"").await?;
                        return Ok(true);
                    }
                    Some(Progress::Refused(why)) => {
                        tracing::warn!(why, "refused a snapshot");
                        self.say(Kind::Refused, why.as_bytes()).await?;
                        return Ok(false);
                    }
                    Some(Progress::Busy) => {
                        self.say(Kind::Busy, b"").await?;
                        return Ok(false);
                    }
                    None => return Ok(false),
                },
                _ = ticks.tick() => {
                    if clock::now() - heard > SILENCE_MAX {
                        return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                    }
                    self.say(Kind::Taken, &0_u64.to_le_bytes()).await?;
                }
                frame = self.next() => {
                    heard = clock::now();
                    match frame? {
                        // Waits for the disk, and so does the sender. A thread that has refused takes no more.
                        (Kind::Chunk, chunk) => drop(chunks.send(chunk).await),
                        (Kind::Ping, _) => {}
                        (kind, _) => return Err(LaneError::Kind(kind)),
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Waits for a leader of a term after `term` to begin with a snapshot.
async fn later(newest: &mut watch::Receiver<u64>, term: u64) {
    drop(newest.wait_for(|newest| *newest > term).await);
}

//! A lane from a peer: the handshake's other side, then, where they wait for no disk, batches of messages for raft.

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use bytes::BytesMut;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::frame::{self, FrameError, Kind};
use super::handshake::{
    self, BOOT, CLUSTER, CLUSTER_MISMATCH, Caller, INCOMPATIBLE_VERSION, PROTOCOL, VERSION,
};
use super::network::Network;
use super::reader::{self, Batch};
use super::table::{LaneKind, Peer, Wish};
use super::{QUIET_MAX, bulk, codec};
use crate::version;

/// The lane of snapshots.
const BULK: &str = "bulk";
/// What is read at once.
const BLOCK: usize = 64 << 10;
/// A longer frame's memory grows as its bytes come: a damaged length reserves no more than this.
const RESERVE_MAX: usize = 4 << 20;

/// `GET /raft/ketch/{lane}`: answers the handshake and, where it is accepted, serves the lane.
pub(super) async fn open_lane(
    State(net): State<Arc<Network>>,
    Path(lane): Path<String>,
    mut request: Request<Body>,
) -> Response<Body> {
    let accepted = accept(&net, &lane, request.headers());
    let mut answer = match accepted {
        Err((status, why)) => refuse(status, why),
        Ok((peer, caller)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let runtime = if lane == BULK { net.bulk.clone() } else { Handle::current() };
            runtime.spawn(serve(Arc::clone(&net), peer, caller, lane, upgrade));
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
            headers.insert(BOOT, HeaderValue::from(net.inner.identity.boot));
            answer
        }
    };
    answer.headers_mut().insert(CLUSTER, handshake::hex(net.inner.identity.cluster_id));
    answer.headers_mut().insert(VERSION, HeaderValue::from_static(version::SERVER));
    answer
}

type Refusal = (StatusCode, &'static str);

fn accept(net: &Network, lane: &str, headers: &HeaderMap) -> Result<(Arc<Peer>, Caller), Refusal> {
    let caller =
        net.inner.identity.check(headers).inspect_err(|(_, why)| note_mismatch(net, headers, why))?;
    if lane != BULK && LaneKind::of_name(lane).is_none() {
        return Err((StatusCode::NOT_FOUND, "invalid path"));
    }
    if net.is_removed(caller.id) {
        tracing::warn!(remote_peer_id = %format_args!("{:x}", caller.id), "rejected stream from a removed peer");
        return Err((StatusCode::GONE, "removed member"));
    }
    let peer = net.peer(caller.id).ok_or((StatusCode::NOT_FOUND, "error sender not found"))?;
    if headers.get(header::UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
        return Err((StatusCode::UPGRADE_REQUIRED, "unknown protocol"));
    }
    if !peer.note_boot(caller.boot) {
        return Err((StatusCode::PRECONDITION_FAILED, "a later start of this member was seen"));
    }
    if !peer.is_whole() {
        peer.nudge();
    }
    Ok((peer, caller))
}

/// Logs a caller of another cluster or version, as etcd does.
fn note_mismatch(net: &Network, headers: &HeaderMap, why: &str) {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let from = text(handshake::FROM);
    let own = format_args!("{:x}", net.inner.identity.member_id).to_string();
    if why == CLUSTER_MISMATCH {
        tracing::warn!(
            local_member_id = %own,
            local_member_cluster_id = %format_args!("{:x}", net.inner.identity.cluster_id),
            remote_peer_id = from,
            remote_peer_cluster_id = text(CLUSTER),
            "request cluster ID mismatch"
        );
    } else if why == INCOMPATIBLE_VERSION {
        tracing::warn!(
            local_member_id = %own,
            local_member_server_version = version::SERVER,
            remote_peer_id = from,
            remote_peer_server_version = text(VERSION),
            "failed to check version compatibility"
        );
    }
}

pub(super) fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{why}\n")));
    *answer.status_mut() = status;
    answer
}

/// Why a lane from a peer ended, when it did not end by itself.
#[derive(Debug)]
pub(super) enum LaneError {
    Io(io::Error),
    Frame(FrameError),
    Message(codec::DecodeError),
    /// A kind of frame that this lane does not carry.
    Kind(Kind),
    /// A message for another member.
    Misdirected,
}

impl fmt::Display for LaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Message(error) => error.fmt(f),
            Self::Kind(kind) => write!(f, "a frame of kind {kind:?} does not belong here"),
            Self::Misdirected => f.write_str("a message for another member"),
        }
    }
}

impl From<io::Error> for LaneError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for LaneError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

async fn serve(net: Arc<Network>, peer: Arc<Peer>, caller: Caller, lane: String, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let outcome = match LaneKind::of_name(&lane) {
        None => bulk::receive(&net.inner, &peer, caller, upgraded).await,
        Some(LaneKind::Urgent) => receive(&net, &peer, caller, upgraded).await,
        Some(LaneKind::Append) => reader::start(&net, Arc::clone(&peer), caller, upgraded),
    };
    note_end(&peer, &lane, outcome);
}

/// Hands the lane's messages to raft, as many at once as have come.
async fn receive(net: &Network, peer: &Peer, caller: Caller, upgraded: Upgraded) -> Result<(), LaneError> {
    let mut io = TokioIo::new(upgraded);
    let mut buffer = BytesMut::with_capacity(BLOCK);
    let mut wishes = peer.wishes();
    let mut ticks = tokio::time::interval(QUIET_MAX);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = true;
    let mut batch = Batch::default();
    while !is_over(&wishes, caller) {
        make_room(&mut buffer);
        tokio::select! {
            biased;
            read = io.read_buf(&mut buffer) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                heard = true;
                peer.meter.received_bytes.add(count as u64);
            }
            _ = wishes.changed() => continue,
            _ = ticks.tick() => {
                if !std::mem::replace(&mut heard, false) {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
            }
        }
        let whole = batch.fill(&mut buffer, net.inner.identity.member_id);
        if !batch.messages.is_empty() {
            net.inner.inlet.messages(std::mem::take(&mut batch.messages));
        }
        whole?;
        if !batch.pongs.is_empty() {
            io.write_all(&batch.take_pongs()).await?;
        }
    }
    Ok(())
}

/// Logs how a lane from a peer ended, if it did not end as connections do.
pub(super) fn note_end(peer: &Peer, lane: &str, outcome: Result<(), LaneError>) {
    match outcome {
        Ok(()) | Err(LaneError::Io(_)) => {}
        Err(error) => {
            peer.meter.received_failures.inc();
            let peer = format_args!("{:x}", peer.id);
            tracing::warn!(remote_peer_id = %peer, lane, %error, "closed a damaged connection from a peer");
        }
    }
}

/// Whether the lane belongs to the past: the peer is no member, or started anew.
pub(super) fn is_over(wishes: &watch::Receiver<Wish>, caller: Caller) -> bool {
    let wish = wishes.borrow();
    wish.unwanted || wish.boot > caller.boot
}

/// Makes room for what is known to come, or for a block.
pub(super) fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < BLOCK / 16
        || frame::missing(buffer) > buffer.capacity() - buffer.len()
    {
        buffer.reserve(frame::missing(buffer).clamp(BLOCK, RESERVE_MAX));
    }
}

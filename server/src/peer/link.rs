//! The task that keeps one lane to one peer connected: dials, waits out the peer's silence, gives up what is dead.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::frame::{self, Kind};
use super::handshake::{self, CLUSTER_MISMATCH, DialError, INCOMPATIBLE_VERSION, Opened};
use super::lane::{self, Lane};
use super::network::Inner;
use super::reports::Report;
use super::table::{LaneKind, Peer, Wish};
use super::{PING_EVERY, QUIET_TICKS_MAX, stream::Stream};

/// The pauses between attempts to connect, doubling from the first to the longest.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_LONGEST: Duration = Duration::from_millis(640);

/// Pauses that grow and differ between members.
#[derive(Debug)]
struct Backoff {
    random: u64,
    next: Duration,
}

impl Backoff {
    fn new(seed: u64) -> Backoff {
        Backoff { random: seed, next: BACKOFF_FIRST }
    }

    /// Between half the current pause and all of it; the next one is twice as long.
    fn pause(&mut self) -> Duration {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let half = self.next / 2;
        let pause = half + half.mul_f64((mixed >> 32) as f64 / f64::from(u32::MAX));
        self.next = (self.next * 2).min(BACKOFF_LONGEST);
        pause
    }

    fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }
}

/// Why a connection is over.
#[derive(Debug)]
enum Ended {
    /// The peer closed it, or the transport failed.
    Lost(io::ErrorKind),
    /// The peer was silent for too long.
    Silent,
    /// The peer started anew.
    Restarted,
    /// The peer is no longer wanted.
    Unwanted,
    /// The bytes are no frames.
    Damaged,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(kind) => write!(f, "{kind}"),
            Self::Silent => f.write_str("the peer is silent"),
            Self::Restarted => f.write_str("the peer started anew"),
            Self::Unwanted => f.write_str("the peer is not wanted any more"),
            Self::Damaged => f.write_str("damaged bytes"),
        }
    }
}

/// Keeps a lane connected until the peer is no longer wanted.
pub(super) async fn run(net: Arc<Inner>, peer: Arc<Peer>, which: LaneKind) {
    let lane = peer.lane(which);
    let mut wishes = peer.wishes();
    let seed = net.seed ^ peer.id.rotate_left(which as u32);
    let mut backoff = Backoff::new(seed);
    let mut attempt = 0;
    let mut complained = String::new();
    while !wishes.borrow_and_update().unwanted {
        match dial(&net, &peer, which, attempt).await {
            Ok(opened) => {
                complained.clear();
                let ended = connected(&net, &peer, which, lane, opened, &mut backoff).await;
                tracing::info!(peer = %format_args!("{:x}", peer.id), lane = which.name(), %ended, "lost the connection to a peer");
            }
            Err(error) => {
                attempt += 1;
                complain(&net, &peer, &error, &mut complained);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            // The peer has just called: it is there.
            _ = wishes.changed() => {}
        }
    }
}

async fn dial(net: &Inner, peer: &Peer, which: LaneKind, attempt: usize) -> Result<Opened, DialError> {
    let url = peer.url(attempt).ok_or(DialError::Answer("the peer has no URL"))?;
    let opened = handshake::dial(&net.identity, peer.id, &url, which.name(), net.dial_timeout).await?;
    if !peer.note_boot(opened.boot) {
        return Err(DialError::Answer("an earlier start of the peer answered"));
    }
    Ok(opened)
}

/// Logs why a peer cannot be reached, once for each reason.
fn complain(net: &Inner, peer: &Peer, error: &DialError, last: &mut String) {
    let text = error.to_string();
    if text == *last {
        return;
    }
    let (peer, own) = (format_args!("{:x}", peer.id), format_args!("{:x}", net.identity.member_id));
    match error {
        DialError::Refused(_, why) if why == CLUSTER_MISMATCH => {
            let cluster = format_args!("{:x}", net.identity.cluster_id);
            tracing::error!(remote_peer_id = %peer, local_member_id = %own, local_member_cluster_id = %cluster, error = why,
                "request sent was ignored by remote peer due to cluster ID mismatch");
        }
        DialError::Refused(_, why) if why == INCOMPATIBLE_VERSION => {
            tracing::error!(remote_peer_id = %peer, local_member_id = %own, error = why,
                "request sent was ignored by remote peer due to server version incompatibility");
        }
        DialError::Refused(http::StatusCode::GONE, _) => {
            tracing::error!(remote_peer_id = %peer, local_member_id = %own,
                "the member has been permanently removed from the cluster");
            net.report(Report::Removed);
        }
        _ => tracing::warn!(remote_peer_id = %peer, error = text, "failed to reach a peer"),
    }
    *last = text;
}

async fn connected(
    net: &Inner,
    peer: &Peer,
    which: LaneKind,
    lane: &Lane,
    opened: Opened,
    backoff: &mut Backoff,
) -> Ended {
    let Opened { stream, early, boot } = opened;
    let stream = Arc::new(stream);
    if lane.connect(Arc::clone(&stream)) {
        // What was lost meanwhile: raft may have heard of the first loss only.
        net.report(Report::Unreachable(peer.id));
    }
    peer.set_connected(which, true);
    let ended = hold(net, peer, lane, &stream, early, boot, backoff).await;
    peer.set_connected(which, false);
    lane.disconnect();
    net.report(Report::Unreachable(peer.id));
    ended
}

async fn hold(
    net: &Inner,
    peer: &Peer,
    lane: &Lane,
    stream: &Stream,
    mut buffer: BytesMut,
    boot: u64,
    backoff: &mut Backoff,
) -> Ended {
    let mut wishes = peer.wishes();
    let mut ticks = tokio::time::interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sign = Sign::default();
    loop {
        let (stuck, written, broken) = lane.link_state();
        if let Some(kind) = broken {
            return Ended::Lost(kind);
        }
        tokio::select! {
            ready = stream.ready(stuck) => {
                if let Err(error) = ready {
                    return Ended::Lost(error.kind());
                }
                if stuck {
                    lane.resume(&peer.meter.sent_bytes);
                }
                match lane::read(stream, &mut buffer) {
                    Ok(true) => {}
                    Ok(false) => return Ended::Lost(io::ErrorKind::UnexpectedEof),
                    Err(error) => return Ended::Lost(error.kind()),
                }
                match pongs(net, peer, &mut buffer) {
                    Ok(0) => {}
                    Ok(_) => sign.heard(backoff),
                    Err(ended) => return ended,
                }
            }
            () = lane.wake.notified() => lane.flush(&peer.meter.sent_bytes),
            _ = ticks.tick() => {
                if sign.is_missing(written) {
                    return Ended::Silent;
                }
                lane.ping(net.since_start());
                lane.flush(&peer.meter.sent_bytes);
            }
            _ = wishes.changed() => {}
        }
        if let Some(ended) = over(&wishes, boot) {
            return ended;
        }
    }
}

fn over(wishes: &watch::Receiver<Wish>, boot: u64) -> Option<Ended> {
    let wish = wishes.borrow();
    match *wish {
        Wish { unwanted: true, .. } => Some(Ended::Unwanted),
        Wish { boot: newer, .. } if newer > boot => Some(Ended::Restarted),
        _ => None,
    }
}

/// Whether the peer shows that it lives. Counted in ticks: a pause of this member is not the peer's silence.
#[derive(Default)]
struct Sign {
    quiet_ticks: u32,
    written: u64,
}

impl Sign {
    /// The peer has answered: the connection works.
    fn heard(&mut self, backoff: &mut Backoff) {
        self.quiet_ticks = 0;
        backoff.reset();
    }

    /// Counts a tick. A peer that takes bytes lives, however slowly.
    fn is_missing(&mut self, written: u64) -> bool {
        if written > self.written + PING_BYTES {
            self.quiet_ticks = 0;
        }
        self.written = written;
        self.quiet_ticks += 1;
        self.quiet_ticks > QUIET_TICKS_MAX
    }
}

/// What a ping alone comes to: the system takes it from this member whether the peer lives or not.
const PING_BYTES: u64 = 17;

/// Reads what the peer sends back on a lane of ours: answers to pings only.
fn pongs(net: &Inner, peer: &Peer, buffer: &mut BytesMut) -> Result<usize, Ended> {
    let mut count = 0;
    while let Some((kind, mut body)) = frame::next_frame(buffer).map_err(|_| Ended::Damaged)? {
        if kind != Kind::Pong || body.len() != 8 {
            return Err(Ended::Damaged);
        }
        let elapsed = net.since_start().saturating_sub(body.get_u64_le());
        peer.meter.round_trip.observe(Duration::from_nanos(elapsed));
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let (mut one, mut two) = (Backoff::new(1), Backoff::new(2));
        let pauses: Vec<Duration> = (0..10).map(|_| one.pause()).collect();
        assert!(pauses.iter().all(|pause| *pause >= BACKOFF_FIRST / 2 && *pause <= BACKOFF_LONGEST));
        assert!(pauses[9] >= BACKOFF_LONGEST / 2);
        assert_ne!(pauses, (0..10).map(|_| two.pause()).collect::<Vec<_>>());
        one.reset();
        assert!(one.pause() <= BACKOFF_FIRST);
    }
}

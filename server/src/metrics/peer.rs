//! What a member measures of each peer: `etcd_network_*` with the peer's id as a label.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::text::Page;
use super::{Counter, Gauge, Histogram};
use crate::sync::lock;

/// Instruments of one peer.
#[derive(Debug)]
pub struct PeerMeter {
    /// `etcd_network_active_peers`: whether messages reach it.
    pub active: Gauge,
    /// `etcd_network_disconnected_peers_total`.
    pub disconnected: Counter,
    /// `etcd_network_peer_sent_bytes_total`.
    pub sent_bytes: Counter,
    /// `etcd_network_peer_received_bytes_total`.
    pub received_bytes: Counter,
    /// `etcd_network_peer_sent_failures_total`: messages that were dropped.
    pub sent_failures: Counter,
    /// `etcd_network_peer_received_failures_total`: connections that ended with damage.
    pub received_failures: Counter,
    /// `etcd_network_peer_round_trip_time_seconds`.
    pub round_trip: Histogram,
    /// `ketch_network_peer_queue_*`: what waits in the lane of small messages.
    urgent: Queue,
    /// The same of the lane of entries.
    append: Queue,
    /// `etcd_network_snapshot_send_*`.
    pub snapshot_send: Transfers,
    /// `etcd_network_snapshot_receive_*`.
    pub snapshot_receive: Transfers,
}

/// What waits in a lane.
#[derive(Debug)]
pub struct Queue {
    bytes: Gauge,
    frames: Gauge,
}

impl Queue {
    fn new() -> Queue {
        Queue { bytes: Gauge::zero(), frames: Gauge::zero() }
    }

    /// So much waits.
    pub fn set(&self, bytes: usize, frames: usize) {
        self.bytes.set_unsigned(bytes as u64);
        self.frames.set_unsigned(frames as u64);
    }
}

/// Snapshots in one direction.
#[derive(Debug)]
pub struct Transfers {
    /// Those that run.
    pub inflights: Gauge,
    /// Those that failed.
    pub failures: Counter,
    /// Those that succeeded, by how long they took.
    pub duration: Histogram,
}

impl Transfers {
    fn new() -> Transfers {
        Transfers {
            inflights: Gauge::zero(),
            failures: Counter::default(),
            duration: Histogram::doubling(Duration::from_millis(100), 10),
        }
    }
}

impl PeerMeter {
    fn new() -> PeerMeter {
        PeerMeter {
            active: Gauge::default(),
            disconnected: Counter::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            sent_failures: Counter::default(),
            received_failures: Counter::default(),
            round_trip: Histogram::doubling(Duration::from_micros(100), 16),
            urgent: Queue::new(),
            append: Queue::new(),
            snapshot_send: Transfers::new(),
            snapshot_receive: Transfers::new(),
        }
    }

    /// The lane of this name: `append`, or the one of small messages.
    #[must_use]
    pub fn queue(&self, lane: &str) -> &Queue {
        if lane == "append" { &self.append } else { &self.urgent }
    }
}

/// The peers of a member.
#[derive(Debug, Default)]
pub struct PeerMetrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    local: String,
    peers: BTreeMap<String, Arc<PeerMeter>>,
}

impl PeerMetrics {
    /// The instruments of peer `id`, as seen from member `local`.
    #[must_use]
    pub fn of(&self, local: u64, id: u64) -> Arc<PeerMeter> {
        let mut state = lock(&self.0);
        state.local = format!("{local:x}");
        Arc::clone(state.peers.entry(format!("{id:x}")).or_insert_with(|| Arc::new(PeerMeter::new())))
    }

    pub(super) fn render(&self, page: &mut Page) {
        let state = lock(&self.0);
        if state.peers.is_empty() {
            return;
        }
        let peers: Vec<(&str, &PeerMeter)> = state.peers.iter().map(|(id, m)| (id.as_str(), &**m)).collect();
        connections(page, &state.local, &peers);
        traffic(page, &peers);
        queues(page, &peers);
        transfers(page, "send", "To", &peers, |meter| &meter.snapshot_send);
        transfers(page, "receive", "From", &peers, |meter| &meter.snapshot_receive);
    }
}

type Peers<'a> = [(&'a str, &'a PeerMeter)];

fn connections(page: &mut Page, local: &str, peers: &Peers<'_>) {
    let mut active = page.family("etcd_network_active_peers", "gauge", "1 if messages reach the peer");
    for (id, meter) in peers {
        if let Some(value) = meter.active.get() {
            active.sample(&[("Local", local), ("Remote", id)], value);
        }
    }
    let name = "etcd_network_disconnected_peers_total";
    let mut family = page.family(name, "counter", "Connections to the peer that were lost");
    for (id, meter) in peers {
        family.sample(&[("Local", local), ("Remote", id)], meter.disconnected.get());
    }
}

fn traffic(page: &mut Page, peers: &Peers<'_>) {
    let mut counters = |name, help, label, of: fn(&PeerMeter) -> &Counter| {
        let mut family = page.family(name, "counter", help);
        for (id, meter) in peers {
            family.sample(&[(label, id)], of(meter).get());
        }
    };
    let name = "etcd_network_peer_received_bytes_total";
    counters(name, "Bytes received from the peer", "From", |meter| &meter.received_bytes);
    let name = "etcd_network_peer_received_failures_total";
    counters(name, "Connections from the peer that ended with damage", "From", |meter| {
        &meter.received_failures
    });
    let name = "etcd_network_peer_sent_bytes_total";
    counters(name, "Bytes sent to the peer", "To", |meter| &meter.sent_bytes);
    let name = "etcd_network_peer_sent_failures_total";
    counters(name, "Messages to the peer that were dropped", "To", |meter| &meter.sent_failures);
    let name = "etcd_network_peer_round_trip_time_seconds";
    let mut family = page.family(name, "histogram", "Time of a round trip to the peer");
    for (id, meter) in peers {
        family.histogram(&[("To", id)], &meter.round_trip);
    }
}

fn queues(page: &mut Page, peers: &Peers<'_>) {
    let mut gauges = |name, help, of: fn(&Queue) -> &Gauge| {
        let mut family = page.family(name, "gauge", help);
        for (id, meter) in peers {
            for lane in ["append", "urgent"] {
                family.sample(&[("Lane", lane), ("To", id)], of(meter.queue(lane)).get().unwrap_or(0));
            }
        }
    };
    let name = "ketch_network_peer_queue_bytes";
    gauges(name, "Bytes that wait to be written to the peer", |queue| &queue.bytes);
    let name = "ketch_network_peer_queue_frames";
    gauges(name, "Messages that wait to be written to the peer", |queue| &queue.frames);
}

fn transfers(page: &mut Page, way: &str, label: &str, peers: &Peers<'_>, of: fn(&PeerMeter) -> &Transfers) {
    let name = |what: &str| format!("etcd_network_snapshot_{way}_{what}");
    let mut one = |what: &str, kind, help, value: fn(&Transfers) -> u64| {
        let name = name(what);
        let mut family = page.family(&name, kind, help);
        for (id, meter) in peers {
            family.sample(&[(label, id)], value(of(meter)));
        }
    };
    one("failures", "counter", "Snapshots that failed", |transfers| transfers.failures.get());
    one("inflights_total", "gauge", "Snapshots under way", |transfers| {
        transfers.inflights.get().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
    });
    one("success", "counter", "Snapshots that succeeded", |transfers| transfers.duration.count());
    let name = name("total_duration_seconds");
    let mut family = page.family(&name, "histogram", "Time that a snapshot took");
    for (id, meter) in peers {
        family.histogram(&[(label, id)], &of(meter).duration);
    }
}

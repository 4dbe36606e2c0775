//! Runs a plan: connects, lets the clients draw numbered requests, collects what they saw.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::kv_client::KvClient;
use ketch_proto::tonic::transport::{Channel, Endpoint};
use tokio::task::JoinSet;

use super::plan::{Length, Plan};
use super::report::Report;
use super::request::Requests;

/// HTTP/2 flow-control windows wide enough never to be what is measured.
const WINDOW_BYTES: u32 = 16 << 20;

/// What the clients share: the next request's number and the schedule.
#[derive(Debug)]
struct Schedule {
    next: AtomicU64,
    length: Length,
    start: Instant,
    interval: Option<Duration>,
    stop: Arc<AtomicBool>,
}

/// What one client saw.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// One per answered request, in units of [`SAMPLE_NS`].
    pub(super) latencies: Vec<u32>,
    /// How often each error came.
    pub(super) errors: BTreeMap<String, u64>,
}

/// Nanoseconds per unit of a sample: fine enough, and 32 bits reach seven minutes.
pub(super) const SAMPLE_NS: u64 = 100;

/// Runs `plan` to its end.
///
/// # Errors
///
/// A connection cannot be made. Failed requests are no errors here: the report counts them.
///
/// # Cancel safety
///
/// Dropping the future ends all clients; requests under way may still be executed by the server.
pub async fn run(plan: &Plan) -> io::Result<Report> {
    run_until(plan, Arc::default()).await
}

/// As [`run`], but no new request leaves once `stop` is set.
///
/// # Errors
///
/// As [`run`].
///
/// # Cancel safety
///
/// As [`run`].
pub async fn run_until(plan: &Plan, stop: Arc<AtomicBool>) -> io::Result<Report> {
    let plan = Arc::new(plan.clone());
    let channels = connect(&plan).await?;
    let schedule = Arc::new(Schedule {
        next: AtomicU64::new(0),
        length: plan.length,
        start: Instant::now(),
        interval: plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001))),
        stop,
    });
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let channel = channels[number % channels.len()].clone();
        clients.spawn(client(plan.clone(), schedule.clone(), channel, number));
    }
    let mut samples = Vec::with_capacity(plan.clients);
    while let Some(done) = clients.join_next().await {
        samples.push(done.map_err(io::Error::other)?);
    }
    Ok(Report::new(&plan, schedule.start.elapsed(), &samples))
}

async fn connect(plan: &Plan) -> io::Result<Vec<Channel>> {
    let mut channels = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections.max(1) {
        let url = plan.endpoints.get(number % plan.endpoints.len().max(1));
        let url = url.ok_or_else(|| io::Error::other("no endpoint given"))?;
        let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        let problem = |error| io::Error::other(format!("{url}: {error}"));
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(io::Error::other)?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_timeout(Duration::from_secs(10));
        channels.push(endpoint.connect().await.map_err(problem)?);
    }
    Ok(channels)
}

async fn client(plan: Arc<Plan>, schedule: Arc<Schedule>, channel: Channel, number: usize) -> Samples {
    let mut stub = KvClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut requests = Requests::new(&plan, number);
    let mut samples = Samples::default();
    while let Some(ticket) = schedule.draw() {
        let since = schedule.await_turn(ticket).await;
        match requests.send(&mut stub, ticket).await {
            Ok(()) => {
                let units = since.elapsed().as_nanos() / u128::from(SAMPLE_NS);
                samples.latencies.push(u32::try_from(units).unwrap_or(u32::MAX));
            }
            Err(status) => {
                let text = format!("{:?}: {}", status.code(), status.message());
                *samples.errors.entry(text).or_default() += 1;
            }
        }
    }
    samples
}

impl Schedule {
    /// The next request's number, unless it is time to stop.
    fn draw(&self) -> Option<u64> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let go_on = match self.length {
            Length::Requests(total) => ticket < total,
            Length::Time(time) => match self.interval {
                Some(interval) => interval.mul_f64(ticket as f64) < time,
                None => self.start.elapsed() < time,
            },
        };
        go_on.then_some(ticket)
    }

    /// Waits until the request is due and returns the moment its latency counts from. When the request is
    /// late because all clients were busy, that is when it was due; when this client had to wait for its
    /// turn, it is now, so that the coarseness of the timer is not charged to the server.
    async fn await_turn(&self, ticket: u64) -> Instant {
        let Some(interval) = self.interval else {
            return Instant::now();
        };
        let due = self.start + interval.mul_f64(ticket as f64);
        let now = Instant::now();
        if due <= now {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

//! Runs a plan: connects, lets the clients draw numbered requests, collects what they saw.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::drive::Driver;
use super::plan::{Length, Plan};
use super::report::Report;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the clients share: the next request's number and the schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    next: AtomicU64,
    length: Length,
    start: Instant,
    interval: Option<Duration>,
    stop: Arc<AtomicBool>,
}

/// What the clients of one connection saw.
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
/// A connection cannot be made. Failed requests are no errors here: the report counts them. A connection that breaks fails its
/// requests under way and is made again.
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
    // No more than there are clients: a connection without one would do nothing.
    let connections = plan.connections.clamp(1, plan.clients.max(1));
    let mut sockets = Vec::with_capacity(connections);
    for number in 0..connections {
        let address = plan.address(number)?;
        sockets.push((connect(&address).await?, address));
    }
    let schedule = Arc::new(Schedule {
        next: AtomicU64::new(0),
        length: plan.length,
        start: Instant::now(),
        interval: plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001))),
        stop,
    });
    let mut drivers = JoinSet::new();
    for (number, (socket, address)) in sockets.into_iter().enumerate() {
        let (plan, schedule) = (plan.clone(), schedule.clone());
        drivers.spawn(async move {
            let clients = (number..plan.clients).step_by(connections);
            Driver::new(&plan, &schedule, address, clients).run(socket).await
        });
    }
    let mut samples = Vec::with_capacity(connections);
    while let Some(done) = drivers.join_next().await {
        samples.push(done.map_err(io::Error::other)?);
    }
    Ok(Report::new(&plan, schedule.start.elapsed(), &samples))
}

impl Plan {
    /// Host and port that connection `number` goes to.
    fn address(&self, number: usize) -> io::Result<String> {
        let url = self.endpoints.get(number % self.endpoints.len().max(1));
        let url = url.ok_or_else(|| io::Error::other("no endpoint given"))?;
        let address = match url.split_once("://") {
            Some(("http", address)) => address,
            Some(_) => return Err(io::Error::other(format!("{url}: only http:// is spoken"))),
            None => url,
        };
        Ok(address.trim_end_matches('/').to_owned())
    }
}

pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let problem = |error: &dyn std::fmt::Display| io::Error::other(format!("{address}: {error}"));
    let socket = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let socket = socket.map_err(|late| problem(&late))?.map_err(|error| problem(&error))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Samples {
    pub(super) fn succeeded(&mut self, time: Duration) {
        let units = time.as_nanos() / u128::from(SAMPLE_NS);
        self.latencies.push(u32::try_from(units).unwrap_or(u32::MAX));
    }

    pub(super) fn failed(&mut self, status: &ketch_proto::tonic::Status) {
        let text = format!("{:?}: {}", status.code(), status.message());
        *self.errors.entry(text).or_default() += 1;
    }
}

impl Schedule {
    /// The next request's number, unless it is time to stop.
    pub(super) fn draw(&self) -> Option<u64> {
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

    /// When request `ticket` is due, in an open loop.
    pub(super) fn due(&self, ticket: u64) -> Option<Instant> {
        self.interval.map(|interval| self.start + interval.mul_f64(ticket as f64))
    }
}

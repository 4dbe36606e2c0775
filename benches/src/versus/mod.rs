//! Servers side by side: each round starts every program afresh, one after the other, drives the same cases
//! and reads what the server process itself used; the table shows medians over the rounds.
//!
//! The order changes from round to round, so that a machine that slows down or speeds up favours nobody.

pub(crate) mod table;

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use crate::load::{Length, Operation, Plan, Report, run};
use crate::server::{Program, Server};
use crate::usage::{Memory, cpu_time, memory};

pub use table::render;

/// A server that used less than a twentieth of this much time is at rest.
const SETTLE_CHECK: Duration = Duration::from_millis(400);

/// How often that is looked at.
const SETTLE_CHECKS_MAX: u32 = 25;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Kind of request.
    pub operation: Operation,
    /// Requests under way.
    pub clients: usize,
}

impl Case {
    /// Name in the table and on the command line, such as `put64`.
    pub fn name(&self) -> String {
        format!("{}{}", self.operation.name(), self.clients)
    }

    /// Connections: clients of one program share one; so many programs are rare.
    pub(crate) fn connections(&self) -> usize {
        self.clients.div_ceil(16).min(64)
    }

    /// Enough requests for a steady figure: a lone client is slow, a list is dear.
    pub(crate) fn requests(&self, scale: f64) -> u64 {
        let requests: f64 = match (self.operation, self.clients) {
            (Operation::Range | Operation::Count, _) => 2_000.0,
            (_, 1..4) => 5_000.0,
            (_, 4..128) => 100_000.0,
            _ => 200_000.0,
        };
        (requests * scale).max(1.0) as u64
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let (name, clients) = text.split_at(digits);
        let wrong =
            || format!("{text:?} is no case: write an operation and a number of clients, as in put64");
        let operation = name.parse().map_err(|()| wrong())?;
        let clients = clients.parse().ok().filter(|clients| *clients > 0).ok_or_else(wrong)?;
        Ok(Case { operation, clients })
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The programs; ratios are those of the last to the first.
    pub programs: Vec<Program>,
    /// The loads, in this order, on one server without a restart.
    pub cases: Vec<Case>,
    /// How often everything is repeated.
    pub rounds: usize,
    /// Factor on the number of requests.
    pub scale: f64,
    /// Number of different keys; all are put once before the first case.
    pub key_space: u64,
    /// Bytes of a value.
    pub value_size: usize,
}

/// One case on one server.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// What the clients saw.
    pub report: Report,
    /// Microseconds of the server's processor time per successful request.
    pub cpu_us: f64,
}

/// One program in one round.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Place in [`Setup::programs`].
    pub program: usize,
    /// In the order of [`Setup::cases`].
    pub measurements: Vec<Measurement>,
    /// Of the server after the last case.
    pub memory: Memory,
}

/// Runs everything below `root`, a folder on the disk to be measured; `progress` hears of each step.
///
/// # Errors
///
/// A server does not start, a connection cannot be made, or a request failed.
pub fn measure(setup: &Setup, root: &Path, mut progress: impl FnMut(&str)) -> io::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for round in 0..setup.rounds {
        let mut order: Vec<usize> = (0..setup.programs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for program in order {
            progress(&format!("round {}: {}", round + 1, setup.programs[program].name));
            outcomes.push(measure_one(setup, program, root, &mut progress)?);
        }
    }
    Ok(outcomes)
}

fn measure_one(
    setup: &Setup,
    program: usize,
    root: &Path,
    progress: &mut impl FnMut(&str),
) -> io::Result<Outcome> {
    let server = Server::start(&setup.programs[program], root)?;
    let base = Plan {
        endpoints: vec![server.url()],
        key_space: setup.key_space,
        value_size: setup.value_size,
        ..Plan::default()
    };
    let fill = Plan {
        connections: 4,
        clients: 64,
        sequential: true,
        length: Length::Requests(setup.key_space),
        ..base.clone()
    };
    drive(&fill, &server)?;
    settle(&server)?;
    let mut measurements = Vec::with_capacity(setup.cases.len());
    for case in &setup.cases {
        let plan = Plan {
            operation: case.operation,
            clients: case.clients,
            connections: case.connections(),
            length: Length::Requests(case.requests(setup.scale)),
            ..base.clone()
        };
        let measurement = drive(&plan, &server)?;
        progress(&format!("  {}, cpu {:.1} µs per request", measurement.report, measurement.cpu_us));
        measurements.push(measurement);
    }
    Ok(Outcome { program, measurements, memory: memory(server.pid())? })
}

/// Waits until the server has nothing to do of its own, such as preparing files for later: that would be
/// charged to whichever case comes first. It need not come to rest, so there is an end to the patience.
fn settle(server: &Server) -> io::Result<()> {
    let mut before = cpu_time(server.pid())?;
    for _ in 0..SETTLE_CHECKS_MAX {
        thread::sleep(SETTLE_CHECK);
        let now = cpu_time(server.pid())?;
        if now.saturating_sub(before) <= SETTLE_CHECK / 20 {
            break;
        }
        before = now;
    }
    Ok(())
}

/// One plan against one server, on a client runtime of its own.
fn drive(plan: &Plan, server: &Server) -> io::Result<Measurement> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let before = cpu_time(server.pid())?;
    let report = runtime.block_on(run(plan))?;
    let used = cpu_time(server.pid())?.saturating_sub(before);
    if report.failed() > 0 {
        return Err(io::Error::other(format!("requests failed: {report}")));
    }
    let cpu_us = used.as_secs_f64() * 1e6 / report.succeeded.max(1) as f64;
    Ok(Measurement { report, cpu_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_spelled_operation_and_clients() {
        let case: Case = "put64".parse().unwrap();
        assert_eq!((case.operation, case.clients, case.name()), (Operation::Put, 64, "put64".to_owned()));
        for wrong in ["put", "put0", "wat64", "64"] {
            wrong.parse::<Case>().unwrap_err();
        }
    }
}

//! Loads on one cluster, one after the other, and the members' memory after them.

use std::io;

use super::members::{MEMBERS, Members};
use super::{Figure, Load, Setup};
use crate::load::{Length, Operation, Plan, run};
use crate::server::Program;

/// Different keys; all are put once before the first load.
const KEYS: u64 = 10_000;

pub(super) async fn measure(setup: &Setup, program: &Program) -> io::Result<Vec<Figure>> {
    let members = Members::start(program, &setup.root)?;
    let leader = members.leader().await?;
    let fill = Plan {
        endpoints: vec![members.url(leader)],
        connections: 4,
        clients: 64,
        sequential: true,
        length: Length::Requests(KEYS),
        key_space: KEYS,
        ..Plan::default()
    };
    must(&fill).await?;
    members.settle().await?;
    let mut figures =
        vec![Figure::new("anonymous memory of a member before the loads, MiB", mean(&members)?)];
    for load in &setup.loads {
        figures.extend(drive(setup, *load, &members).await?);
    }
    let largest = members.anonymous_mib()?.into_iter().fold(0.0, f64::max);
    figures.push(Figure::new("anonymous memory of a member after the loads, MiB", mean(&members)?));
    figures.push(Figure::new("of the largest member, MiB", largest));
    Ok(figures)
}

fn mean(members: &Members) -> io::Result<f64> {
    Ok(members.anonymous_mib()?.into_iter().sum::<f64>() / MEMBERS as f64)
}

async fn drive(setup: &Setup, load: Load, members: &Members) -> io::Result<Vec<Figure>> {
    // It may have changed.
    let leader = members.leader().await?;
    let endpoints = match load.spread {
        true => (0..MEMBERS).map(|at| members.url(at)).collect(),
        false => vec![members.url(leader)],
    };
    let plan = Plan {
        operation: load.case.operation,
        clients: load.case.clients,
        connections: load.case.connections().max(if load.spread { MEMBERS } else { 1 }),
        length: Length::Requests(requests(load, setup.scale)),
        endpoints,
        key_space: KEYS,
        ..Plan::default()
    };
    let before = members.cpu_time()?;
    let report = must(&plan).await?;
    let used = members.cpu_time()?.saturating_sub(before);
    let name = load.name();
    Ok(vec![
        Figure::new(format!("{name}: requests/s (more is better)"), report.rate()),
        Figure::new(format!("{name}: p50, ms"), report.latency.p50.as_secs_f64() * 1e3),
        Figure::new(format!("{name}: p99, ms"), report.latency.p99.as_secs_f64() * 1e3),
        Figure::new(
            format!("{name}: CPU of all members, µs a request"),
            used.as_secs_f64() * 1e6 / report.succeeded.max(1) as f64,
        ),
    ])
}

/// Half of what one server alone gets: a put costs three times the work.
fn requests(load: Load, scale: f64) -> u64 {
    load.case.requests(scale * if load.case.operation == Operation::Get { 1.0 } else { 0.5 })
}

pub(super) async fn must(plan: &Plan) -> io::Result<crate::load::Report> {
    let report = run(plan).await?;
    if report.failed() > 0 { Err(io::Error::other(format!("requests failed: {report}"))) } else { Ok(report) }
}

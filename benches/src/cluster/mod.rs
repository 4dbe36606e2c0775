//! Three members of each program on this machine: loads, a leader that is killed, a member that joins. Every round starts both
//! clusters afresh, one after the other, in turns; the table shows medians over the rounds.

mod catch_up;
mod failover;
mod loads;
mod members;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::server::Program;
use crate::versus::Case;
use crate::versus::table::median;

/// What was measured of one program in one round.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: String,
    /// The figure.
    pub value: f64,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64) -> Figure {
        Figure { name: name.into(), value }
    }
}

/// One kind of load, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Operation and clients.
    pub case: Case,
    /// Connections are spread over all members; otherwise all go to the leader.
    pub spread: bool,
}

impl Load {
    /// As on the command line.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.case.name(), if self.spread { "all" } else { "leader" })
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Load, String> {
        let (case, place) = text.split_once('@').unwrap_or((text, "leader"));
        let spread = match place {
            "all" => true,
            "leader" => false,
            _ => return Err(format!("{text:?}: clients go to @leader or to @all members")),
        };
        Ok(Load { case: case.parse()?, spread })
    }
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Loads one after the other, then memory.
    Loads,
    /// The leader is killed, again and again.
    Failover,
    /// A member joins a cluster with much data.
    CatchUp,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        match text {
            "loads" => Ok(Part::Loads),
            "failover" => Ok(Part::Failover),
            "catch-up" => Ok(Part::CatchUp),
            _ => Err(format!("there is no part {text:?}; there are loads, failover and catch-up")),
        }
    }
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The programs; ratios are those of the last to the first.
    pub programs: Vec<Program>,
    /// What to measure.
    pub parts: Vec<Part>,
    /// The loads of [`Part::Loads`], in this order, on one cluster.
    pub loads: Vec<Load>,
    /// How often everything is repeated.
    pub rounds: usize,
    /// Factor on the number of requests.
    pub scale: f64,
    /// How often the leader is killed in each round.
    pub kills: usize,
    /// Bytes of values that a new member has to catch up with.
    pub catch_up_bytes: u64,
    /// Data directories go below it.
    pub root: PathBuf,
}

/// Runs everything and gives a Markdown table; `progress` hears of each figure.
///
/// # Errors
///
/// A member does not start or does not answer.
pub fn measure(setup: &Setup, mut progress: impl FnMut(&str)) -> io::Result<String> {
    let mut found: Vec<Vec<Vec<Figure>>> = vec![Vec::new(); setup.programs.len()];
    for round in 0..setup.rounds {
        let mut order: Vec<usize> = (0..setup.programs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); setup.programs.len()];
        for part in &setup.parts {
            for &program in &order {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let measured = runtime.block_on(measure_part(setup, *part, &setup.programs[program]))?;
                for figure in &measured {
                    let name = &setup.programs[program].name;
                    progress(&format!("round {}: {name}: {} {:.3}", round + 1, figure.name, figure.value));
                }
                figures[program].extend(measured);
            }
        }
        for (all, figures) in found.iter_mut().zip(figures) {
            all.push(figures);
        }
    }
    Ok(render(&setup.programs, &found))
}

async fn measure_part(setup: &Setup, part: Part, program: &Program) -> io::Result<Vec<Figure>> {
    match part {
        Part::Loads => loads::measure(setup, program).await,
        Part::Failover => failover::measure(setup, program).await,
        Part::CatchUp => catch_up::measure(setup, program).await,
    }
}

/// Medians by program, and the ratio of the last to the first.
fn render(programs: &[Program], found: &[Vec<Vec<Figure>>]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    let columns = names.join(" | ");
    let mut text =
        format!("| three members | {columns} | ratio |\n| --- |{}\n", " ---: |".repeat(names.len() + 1));
    let first = found.first().and_then(|rounds| rounds.first());
    for (row, figure) in first.into_iter().flatten().enumerate() {
        let values: Vec<f64> = found
            .iter()
            .map(|rounds| median(rounds.iter().filter_map(|all| all.get(row)).map(|one| one.value).collect()))
            .collect();
        let cells: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        let ratio = values.last().zip(values.first()).map_or(f64::NAN, |(last, first)| last / first);
        text.push_str(&format!("| {} | {} | **{ratio:.2}** |\n", figure.name, cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_say_where_they_go() {
        assert!("get64@all".parse::<Load>().unwrap().spread);
        assert_eq!("put1".parse::<Load>().unwrap().name(), "put1@leader");
        "put1@follower".parse::<Load>().unwrap_err();
    }

    #[test]
    fn the_table_has_medians_and_their_ratio() {
        let program = |name: &str| Program { name: name.into(), path: PathBuf::new(), flags: Vec::new() };
        let rounds = |values: [f64; 3]| values.map(|value| vec![Figure::new("x", value)]).to_vec();
        let text = render(&[program("a"), program("b")], &[rounds([4.0, 2.0, 9.0]), rounds([1.0, 8.0, 6.0])]);
        assert!(text.ends_with("| x | 4.00 | 6.00 | **1.50** |\n"), "{text}");
    }
}

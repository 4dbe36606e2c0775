//! What watches, large lists and idle clients cost: one figure after the other, ketch beside etcd.
//!
//! Every case starts each program afresh, fills it alike and asks it alike; etcd comes first, because it sets the
//! rate of the fan-out. The binary `versus` prints this with `--table watch`.

mod clients;
mod fan_out;
mod filled;
mod idle;
mod meter;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::server::{Program, Server};

/// One number of one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured, with its unit.
    pub name: String,
    /// The number.
    pub value: f64,
}

/// The figures of one case on one program.
type Figures = Vec<Figure>;

fn figure(name: impl Into<String>, value: f64) -> Figure {
    Figure { name: name.into(), value }
}

/// Sizes of the cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Watchers of one prefix.
    pub fan_out: usize,
    /// Watchers of a key each.
    pub distinct: usize,
    /// Keys of the filled store.
    pub keys: u64,
    /// Puts that fill it.
    pub puts: u64,
    /// Connections that do nothing.
    pub idle: usize,
    /// Length of each measurement, in seconds.
    pub seconds: f64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { fan_out: 1000, distinct: 10_000, keys: 100_000, puts: 500_000, idle: 10_000, seconds: 3.0 }
    }
}

impl Sizes {
    /// All numbers but the time multiplied by `factor`.
    pub fn scaled(self, factor: f64) -> Sizes {
        let scale = |number: usize| ((number as f64 * factor) as usize).max(10);
        Sizes {
            fan_out: scale(self.fan_out),
            distinct: scale(self.distinct),
            keys: scale(self.keys as usize) as u64,
            puts: scale(self.puts as usize) as u64,
            idle: scale(self.idle),
            ..self
        }
    }
}

/// The cases, in order.
pub const CASES: [&str; 4] = ["fan-out", "distinct", "filled", "idle"];

/// Runs the chosen cases on all programs below `root` and returns the table.
///
/// # Errors
///
/// A server does not start, or answered something with an error.
pub fn measure(
    programs: &[Program],
    cases: &[String],
    sizes: Sizes,
    root: &Path,
    mut progress: impl FnMut(&str),
) -> io::Result<String> {
    let mut rows = String::from("| figure |");
    for program in programs {
        let _ = write!(rows, " {} |", program.name);
    }
    rows.push_str(" ratio |\n| --- |");
    rows.push_str(&" ---: |".repeat(programs.len() + 1));
    rows.push('\n');
    for case in CASES.iter().filter(|case| cases.iter().any(|chosen| chosen == *case)) {
        let mut rate = None;
        let mut columns: Vec<Figures> = Vec::new();
        for program in programs {
            progress(&format!("{case}: {}", program.name));
            let server = Server::start(program, root)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let figures = runtime.block_on(async {
                match *case {
                    "fan-out" => fan_out::one_prefix(&server, sizes, &mut rate).await,
                    "distinct" => fan_out::distinct_keys(&server, sizes).await,
                    "filled" => filled::all(&server, sizes).await,
                    _ => idle::connections(&server, sizes).await,
                }
            })?;
            for figure in &figures {
                progress(&format!("  {}: {:.3}", figure.name, figure.value));
            }
            columns.push(figures);
        }
        render(&columns, &mut rows);
    }
    Ok(rows)
}

/// A row per figure; the ratio is that of the last program to the first.
fn render(columns: &[Figures], rows: &mut String) {
    let Some((first, last)) = columns.first().zip(columns.last()) else { return };
    for (row, figure) in first.iter().enumerate() {
        let _ = write!(rows, "| {} |", figure.name);
        for column in columns {
            let value = column.get(row).map_or(f64::NAN, |figure| figure.value);
            let digits = if value.abs() >= 100.0 { 0 } else { 2 };
            let _ = write!(rows, " {value:.digits$} |");
        }
        let ratio = last.get(row).map_or(f64::NAN, |other| other.value / figure.value);
        let _ = writeln!(rows, " **{ratio:.2}** |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_every_program_and_the_ratio() {
        let columns = [vec![figure("ms", 4.0)], vec![figure("ms", 1.0)]];
        let mut rows = String::new();
        render(&columns, &mut rows);
        assert_eq!(rows, "| ms | 4.00 | 1.00 | **0.25** |\n");
    }
}

//! The table at the end.

use std::fmt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) members: u64,
    pub(crate) payload: usize,
    pub(crate) window: usize,
}

struct Cell {
    engine: &'static str,
    /// Proposals a second, the median of the samples.
    rate: f64,
    allocations: f64,
}

/// A row a point, a column an engine.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(Point, Vec<Cell>)>,
}

impl Table {
    pub(crate) fn add(&mut self, point: Point, engine: &'static str, rates: &mut [f64], allocations: f64) {
        rates.sort_by(f64::total_cmp);
        // A filter on the command line leaves some out.
        let Some(rate) = rates.get(rates.len() / 2).copied() else { return };
        let cell = Cell { engine, rate, allocations };
        match self.rows.last_mut() {
            Some((last, cells)) if *last == point => cells.push(cell),
            _ => self.rows.push((point, vec![cell])),
        }
    }
}

fn short(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M", rate / 1e6) } else { format!("{:.0} k", rate / 1e3) }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((_, first)) = self.rows.first() else { return Ok(()) };
        writeln!(f, "\nproposals a second (heap allocations a proposal)\n")?;
        write!(f, "| nodes | payload | in flight |")?;
        first.iter().try_for_each(|cell| write!(f, " {} |", cell.engine))?;
        if first.len() > 1 {
            write!(f, " first / best other |")?;
        }
        write!(f, "\n| ---: | ---: | ---: |")?;
        (0..first.len() + usize::from(first.len() > 1)).try_for_each(|_| write!(f, " ---: |"))?;
        writeln!(f)?;
        for (point, cells) in &self.rows {
            write!(f, "| {} | {} B | {} |", point.members, point.payload, point.window)?;
            for cell in cells {
                write!(f, " {} ({:.2}) |", short(cell.rate), cell.allocations)?;
            }
            let best = cells[1..].iter().map(|cell| cell.rate).reduce(f64::max);
            if let Some(best) = best {
                write!(f, " {:.2} |", cells[0].rate / best)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

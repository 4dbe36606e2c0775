//! Medians and ratios as a Markdown table.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Measurement, Outcome, Setup};

/// A column: heading, how to read it and how to write it.
struct Column {
    heading: &'static str,
    value: fn(&Measurement) -> f64,
    digits: usize,
}

const COLUMNS: [Column; 4] = [
    Column { heading: "requests/s", value: |m| m.report.rate(), digits: 0 },
    Column { heading: "p50 ms", value: |m| millis(m.report.latency.p50), digits: 2 },
    Column { heading: "p99 ms", value: |m| millis(m.report.latency.p99), digits: 2 },
    Column { heading: "server CPU µs/request", value: |m| m.cpu_us, digits: 1 },
];

/// The result as Markdown: a table of medians per case, ratios of the last program to the first, and memory.
pub fn render(setup: &Setup, outcomes: &[Outcome]) -> String {
    let mut text = String::from("| case | program |");
    for column in &COLUMNS {
        let _ = write!(text, " {} |", column.heading);
    }
    text.push_str("\n| --- | --- |");
    text.push_str(&" ---: |".repeat(COLUMNS.len()));
    text.push('\n');
    for (index, case) in setup.cases.iter().enumerate() {
        let rows: Vec<Vec<f64>> =
            (0..setup.programs.len()).map(|program| medians(outcomes, program, index)).collect();
        for (program, row) in setup.programs.iter().zip(&rows) {
            let _ = write!(text, "| {} | {} |", case.name(), program.name);
            for (column, value) in COLUMNS.iter().zip(row) {
                let _ = write!(text, " {value:.*} |", column.digits);
            }
            text.push('\n');
        }
        if let [first, .., last] = rows.as_slice() {
            let _ = write!(text, "| {} | **ratio** |", case.name());
            for (one, other) in first.iter().zip(last) {
                let _ = write!(text, " **{:.2}** |", other / one);
            }
            text.push('\n');
        }
    }
    text.push_str("\n| memory after all cases | anonymous MiB | file-backed MiB |\n| --- | ---: | ---: |\n");
    for (index, program) in setup.programs.iter().enumerate() {
        let of = |value: fn(&Outcome) -> u64| {
            let runs = outcomes.iter().filter(|outcome| outcome.program == index);
            median(runs.map(|outcome| value(outcome) as f64 / f64::from(1 << 20)).collect())
        };
        let anonymous = of(|outcome| outcome.memory.anonymous);
        let file_backed = of(|outcome| outcome.memory.file_backed);
        let _ = writeln!(text, "| {} | {anonymous:.1} | {file_backed:.1} |", program.name);
    }
    text
}

/// Medians of one program's case over the rounds, one per column.
fn medians(outcomes: &[Outcome], program: usize, case: usize) -> Vec<f64> {
    let runs: Vec<&Measurement> = outcomes
        .iter()
        .filter(|outcome| outcome.program == program)
        .filter_map(|outcome| outcome.measurements.get(case))
        .collect();
    COLUMNS.iter().map(|column| median(runs.iter().map(|run| (column.value)(run)).collect())).collect()
}

/// The middle value; of an even number, the mean of the two in the middle; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        values if values.len() % 2 == 1 => values[middle],
        values => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}

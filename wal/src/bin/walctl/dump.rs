//! `walctl dump`: the records in order.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use ketch_wal::{Options, Position, RealDisk, Record, Wal};

use crate::Failure;
use crate::args::Args;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (from, limit) = (position(args.text("from").unwrap_or("0:0"))?, args.number("limit", usize::MAX)?);
    let options = Options { read_only: true, ..Options::default() };
    let wal = Wal::open(Arc::new(RealDisk), &args.dir()?, options)?.wal;
    let mut out = BufWriter::new(io::stdout().lock());
    for record in wal.iter(from).take(limit) {
        let line = line(&record?, args.is_set("data"), args.is_set("json"));
        match writeln!(out, "{line}") {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
    }
    out.flush()?;
    Ok(())
}

fn position(text: &str) -> Result<Position, Failure> {
    let parts = text.split_once(':').and_then(|(segment, offset)| {
        let (segment, offset) = (segment.parse::<u32>().ok()?, offset.parse::<u32>().ok()?);
        Some(Position::from_u64((u64::from(segment) << 32) | u64::from(offset)))
    });
    parts.ok_or_else(|| Failure::Usage(format!("--from {text:?} is not a position like 3:4096")))
}

fn line(record: &Record, data: bool, json: bool) -> String {
    let mut hex = String::new();
    if data {
        for byte in &record.data {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
    }
    let (at, kind, len) = (record.position, record.kind, record.data.len());
    match (json, data) {
        (true, true) => {
            format!("{{\"position\":\"{at}\",\"kind\":{kind},\"bytes\":{len},\"data\":\"{hex}\"}}")
        }
        (true, false) => format!("{{\"position\":\"{at}\",\"kind\":{kind},\"bytes\":{len}}}"),
        (false, true) => format!("{at:<20} kind {kind:<3} {len:>9} B  {hex}"),
        (false, false) => format!("{at:<20} kind {kind:<3} {len:>9} B"),
    }
}

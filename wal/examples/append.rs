//! Append, commit, crash nothing, read it back.

use std::path::Path;
use std::sync::Arc;

use ketch_wal::{Batch, Options, Position, RealDisk, Wal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "example.log".to_owned());
    let opened = Wal::open(Arc::new(RealDisk), Path::new(&dir), Options::default())?;
    println!("{:?}", opened.recovery);
    let wal = opened.wal;
    let mut batch = Batch::new();
    batch.push(1, &[b"two parts, ", b"one record"]);
    batch.push_with(2, |bytes| bytes.extend_from_slice(b"encoded in place"));
    let appended = wal.commit(&mut batch)?;
    println!("durable up to {}, the batch begins at {}", wal.durable_upto(), appended.first);
    for record in wal.iter(Position::START) {
        let record = record?;
        println!("{} kind {} {:?}", record.position, record.kind, String::from_utf8_lossy(&record.data));
    }
    wal.close()?;
    Ok(())
}

//! What appending and recovering cost without the disk: `throughput append [batches] [records per batch] [bytes]`, for instruction
//! counts under `valgrind --tool=callgrind --toggle-collect='*measured*'`, and `throughput recover [MiB]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ketch_wal::{Batch, Options, Position, Progress, RealDisk, Wal};

#[inline(never)]
fn measured_appends(
    wal: &Wal,
    batch: &mut Batch,
    data: &[u8],
    batches: u64,
    records: u64,
) -> Result<(), ketch_wal::Error> {
    for _ in 0..batches {
        batch.clear();
        for _ in 0..records {
            batch.push(1, &[data]);
        }
        wal.append(batch)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "append".to_owned());
    let numbers: Vec<u64> = arguments.map(|n| n.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let dir = std::env::temp_dir().join(format!("ketch-wal-throughput-{}", std::process::id()));
    let options = Options { unsafe_no_sync: true, ..Options::default() };
    let open = || Wal::open(Arc::new(RealDisk), Path::new(&dir), options.clone());
    let wal = open()?.wal;
    let mut batch = Batch::new();
    if mode == "append" {
        let (batches, records, bytes) = (number(0, 2000), number(1, 64), number(2, 300));
        while wal.step(4 << 20)? == Progress::More {}
        let data = vec![0x5a; bytes as usize];
        measured_appends(&wal, &mut batch, &data, 10, records)?;
        let start = Instant::now();
        measured_appends(&wal, &mut batch, &data, batches, records)?;
        let each = start.elapsed().as_nanos() as f64 / (batches * records) as f64;
        println!("{batches} batches of {records} records of {bytes} bytes: {each:.0} ns a record");
    } else {
        let mib = number(0, 1024);
        for _ in 0..mib {
            measured_appends(&wal, &mut batch, &[0x5a; 1000], 16, 64)?;
            wal.sync()?;
        }
        drop(wal);
        let start = Instant::now();
        let opened = open()?;
        let seconds = start.elapsed().as_secs_f64();
        let read = opened.recovery.bytes_read as f64;
        println!("recovery read {:.0} MB in {seconds:.3} s: {:.2} GB/s", read / 1e6, read / 1e9 / seconds);
        let start = Instant::now();
        let records = opened.wal.iter(Position::START).count();
        println!("iteration: {records} records in {:.3} s", start.elapsed().as_secs_f64());
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

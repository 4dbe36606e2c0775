//! What the disk itself can do: one record at a time by each way to write, the table of the design.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::measure::Measure;

const FILE_BYTES: u64 = 64 << 20;

fn file(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).custom_flags(flags).open(path)
}

fn zeroed(path: &Path) -> io::Result<File> {
    let file = file(path, 0)?;
    let zeroes = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Calls `one` with offsets that grow by `step` and begin again at the end of the file.
fn repeat(
    name: &str,
    time: Duration,
    step: u64,
    mut one: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Measure> {
    let (start, mut at, mut latencies) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < time {
        let begun = Instant::now();
        one(at)?;
        latencies.push(begun.elapsed().as_nanos() as u64);
        at = if at + 2 * step > FILE_BYTES { 0 } else { at + step };
    }
    Ok(Measure::new(name.to_owned(), latencies, start.elapsed()))
}

/// Zero-filled file, `pwrite`, `fdatasync`: what a log with one writer is measured against.
pub(crate) struct Filled {
    file: File,
    bytes: Vec<u8>,
}

impl Filled {
    pub(crate) fn new(dir: &Path, record: usize) -> io::Result<Filled> {
        let path = dir.join("bench-filled");
        let file = zeroed(&path)?;
        // Open, it stays for as long as it is needed.
        std::fs::remove_file(path)?;
        Ok(Filled { file, bytes: vec![0x5a; record] })
    }

    /// On a thread of its own, as the log's writers are.
    pub(crate) fn measure(&mut self, time: Duration) -> io::Result<Measure> {
        let one = |at| {
            self.file.write_all_at(&self.bytes, at)?;
            self.file.sync_data()
        };
        let name = "disk: zero-filled, pwrite, fdatasync";
        std::thread::scope(|scope| scope.spawn(|| repeat(name, time, self.bytes.len() as u64, one)).join())
            .unwrap_or_else(|_| Err(io::Error::other("the measuring thread panicked")))
    }
}

/// The other ways, for comparison. One the file system does not offer is left out.
pub(crate) fn others(dir: &Path, record: usize, time: Duration) -> io::Result<Vec<Measure>> {
    let (path, bytes, step) = (dir.join("bench-raw"), vec![0x5a; record], record as u64);
    let mut measures = Vec::new();
    let growing = file(&path, 0)?;
    measures.push(repeat("disk: append to a growing file, fdatasync", time, step, |at| {
        growing.write_all_at(&bytes, at)?;
        growing.sync_data()
    })?);
    let allocated = file(&path, 0)?;
    if allocate(&allocated).is_ok() {
        measures.push(repeat("disk: fallocate, pwrite, fdatasync", time, step, |at| {
            allocated.write_all_at(&bytes, at)?;
            allocated.sync_data()
        })?);
    }
    drop(zeroed(&path)?);
    measures.extend(direct(&path, record, time)?);
    let mapped = zeroed(&path)?;
    // SAFETY: the file is this function's own, nobody else writes to it or cuts it while the map lives.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&mapped)? };
    measures.push(repeat("disk: store through a map, msync", time, step, |at| {
        let at = at as usize;
        map[at..at + bytes.len()].copy_from_slice(&bytes);
        map.flush_range(at, bytes.len())
    })?);
    std::fs::remove_file(path)?;
    Ok(measures)
}

#[cfg(target_os = "linux")]
fn allocate(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call touches no memory of ours.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, FILE_BYTES as libc::off_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File) -> io::Result<()> {
    let _ = file.as_raw_fd();
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn direct(path: &Path, record: usize, time: Duration) -> io::Result<Option<Measure>> {
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let Ok(file) = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) else {
        return Ok(None);
    };
    // The address, the offset and the length must be whole blocks.
    let len = record.next_multiple_of(4096);
    let room = vec![0x5a; len + 4096];
    let start = room.as_ptr().align_offset(4096);
    let bytes = &room[start..start + len];
    if file.write_at(bytes, 0).is_err() {
        return Ok(None);
    }
    let name = "disk: zero-filled, O_DIRECT and O_DSYNC";
    repeat(name, time, len as u64, |at| file.write_all_at(bytes, at)).map(Some)
}

#[cfg(not(target_os = "linux"))]
fn direct(_: &Path, _: usize, _: Duration) -> io::Result<Option<Measure>> {
    Ok(None)
}

//! Writing past the system's memory: whole blocks by direct I/O, what does not fill one in the ordinary way.
//!
//! ```text
//! bytes      ──┤ head │ block │ block │ … │ block │ tail ├──      head and tail share their blocks with what is before and behind:
//!               ordinary ╰───── direct ──────────╯ ordinary      they are written through memory, which the system keeps coherent
//! ```
//!
//! A system or file system without direct I/O gets ordinary writes.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Places, lengths and memory of direct writes are multiples of this. No device asks for more.
const BLOCK: usize = 4096;
/// As many bytes as go to the device by one call.
const PIECE_BYTES: usize = 1 << 20;

thread_local! {
    /// A piece in memory as direct I/O wants it: one for each thread that writes so, however many files it writes.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is in front of the whole blocks of `bytes`, which belong at `offset`; the blocks; what is behind them.
pub(crate) fn split(offset: u64, bytes: &[u8]) -> [&[u8]; 3] {
    let head = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
    let (head, rest) = bytes.split_at(head.min(bytes.len()));
    let (blocks, tail) = rest.split_at(rest.len() / BLOCK * BLOCK);
    [head, blocks, tail]
}

/// Writes `bytes` at `offset` of `file`.
pub(crate) fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    write_by(file, offset, bytes, reopen)
}

/// The way past memory is opened for each write, which costs next to nothing beside it, and so nothing stays open.
fn write_by(
    file: &File,
    offset: u64,
    bytes: &[u8],
    reopen: impl Fn(&File) -> Option<File>,
) -> io::Result<()> {
    let [head, blocks, tail] = split(offset, bytes);
    let direct = if blocks.is_empty() { None } else { reopen(file) };
    let Some(direct) = direct else { return file.write_all_at(bytes, offset) };
    file.write_all_at(head, offset)?;
    let at = offset + head.len() as u64;
    write_blocks(file, &direct, at, blocks)?;
    file.write_all_at(tail, at + blocks.len() as u64)
}

fn write_blocks(file: &File, direct: &File, at: u64, blocks: &[u8]) -> io::Result<()> {
    PIECE.with_borrow_mut(|piece| {
        piece.resize(PIECE_BYTES + BLOCK, 0);
        let skip = piece.as_ptr().align_offset(BLOCK).min(BLOCK);
        for (i, part) in blocks.chunks(PIECE_BYTES).enumerate() {
            let at = at + (i * PIECE_BYTES) as u64;
            let aligned = &mut piece[skip..skip + part.len()];
            aligned.copy_from_slice(part);
            match direct.write_all_at(aligned, at) {
                // Not the shape that this file system wants.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => file.write_all_at(part, at)?,
                outcome => outcome?,
            }
        }
        Ok(())
    })
}

#[cfg(target_os = "linux")]
fn reopen(file: &File) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn reopen(_: &File) -> Option<File> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + seed * 7 + i / 251) as u8).collect()
    }

    /// Pieces of all shapes, one behind the other, read back in between; some of them are written over through memory.
    #[test]
    fn what_goes_past_memory_is_what_is_read() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let lens = [1, 4095, 4096, 4097, 100, 3 * PIECE_BYTES + 5, 8192, 60_000, 3000, PIECE_BYTES, 20_000];
        let mut whole: Vec<u8> = Vec::new();
        for (i, len) in lens.into_iter().enumerate() {
            let piece = bytes(len, i);
            write(&file, whole.len() as u64, &piece).unwrap();
            whole.extend_from_slice(&piece);
            let mut found = vec![0; whole.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(found == whole, "after {len} bytes");
            if i % 3 == 2 {
                // Pages of the range are in memory, changed, when blocks behind them go past it.
                let at = whole.len() - len.min(5000);
                whole[at..].fill(i as u8);
                file.write_all_at(&whole[at..], at as u64).unwrap();
            }
        }
        // Over what is there already, in memory and not yet on the device.
        write(&file, 10, &bytes(50_000, 99)).unwrap();
        whole[10..50_010].copy_from_slice(&bytes(50_000, 99));
        let mut found = vec![0; whole.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == whole);
    }

    #[test]
    fn without_direct_writes_there_are_ordinary_ones() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        write_by(&file, 3, &bytes(10_000, 1), |_| None).unwrap();
        // An error that is not about shapes is told.
        let reads_only = |_: &File| Some(File::open(std::env::current_exe().unwrap()).unwrap());
        write_by(&file, 0, &bytes(10_000, 1), reads_only).unwrap_err();
        let mut found = vec![0; 10_000];
        file.read_exact_at(&mut found, 3).unwrap();
        assert!(found == bytes(10_000, 1));
    }

    #[test]
    fn the_parts_are_all_of_it_and_blocks_are_whole() {
        for (offset, len) in [(0, 0), (0, 4096), (1, 10), (1, 4095), (4095, 8193), (5, 20_000), (8192, 4097)]
        {
            let all = bytes(len, 2);
            let [head, blocks, tail] = split(offset, &all);
            assert_eq!([head, blocks, tail].concat(), all);
            assert!(blocks.is_empty() || (offset + head.len() as u64).is_multiple_of(BLOCK as u64));
            assert!(blocks.len().is_multiple_of(BLOCK) && head.len() < BLOCK && tail.len() < BLOCK);
        }
    }
}

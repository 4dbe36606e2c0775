//! Writing past the system's memory: whole blocks by direct I/O, what does not fill one in the ordinary way.
//!
//! ```text
//! bytes      ──┤ head │ block │ block │ … │ block │ tail ├──      head and tail share their blocks with what is before and behind:
//!               ordinary ╰───── direct ──────────╯ ordinary      they are written through memory, which the system keeps coherent
//! ```
//!
//! A system or file system without direct I/O gets ordinary writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Places, lengths and memory of direct writes are multiples of this. No device asks for more.
const BLOCK: usize = 4096;
/// As many bytes as go to the device by one call.
const PIECE_BYTES: usize = 1 << 20;

/// The way past memory into one file.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// The file, opened for it; `None` where that is impossible.
    file: OnceLock<Option<File>>,
    /// A piece in memory as direct I/O wants it.
    piece: Mutex<Vec<u8>>,
}

impl Direct {
    /// Writes `bytes` at `offset` of `file`, which this always belongs to.
    pub(crate) fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let head = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
        let whole = bytes.len().saturating_sub(head) / BLOCK * BLOCK;
        let direct = if whole > 0 { self.file.get_or_init(|| reopen(file)).as_ref() } else { None };
        let Some(direct) = direct else { return file.write_all_at(bytes, offset) };
        let (head, rest) = bytes.split_at(head);
        let (blocks, tail) = rest.split_at(whole);
        file.write_all_at(head, offset)?;
        let at = offset + head.len() as u64;
        self.blocks(file, direct, at, blocks)?;
        file.write_all_at(tail, at + whole as u64)
    }

    fn blocks(&self, file: &File, direct: &File, at: u64, blocks: &[u8]) -> io::Result<()> {
        let mut piece = self.piece.lock().unwrap_or_else(PoisonError::into_inner);
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
    }
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
        let direct = Direct::default();
        let lens = [1, 4095, 4096, 4097, 100, 3 * PIECE_BYTES + 5, 8192, 60_000, 3000, PIECE_BYTES, 20_000];
        let mut whole: Vec<u8> = Vec::new();
        for (i, len) in lens.into_iter().enumerate() {
            let piece = bytes(len, i);
            direct.write(&file, whole.len() as u64, &piece).unwrap();
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
        direct.write(&file, 10, &bytes(50_000, 99)).unwrap();
        whole[10..50_010].copy_from_slice(&bytes(50_000, 99));
        let mut found = vec![0; whole.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == whole);
    }

    #[test]
    fn without_direct_writes_there_are_ordinary_ones() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let direct = Direct::default();
        direct.file.set(None).unwrap();
        direct.write(&file, 3, &bytes(10_000, 1)).unwrap();
        // One that does not go by the shape it was opened with: as if its blocks were larger.
        let odd = Direct::default();
        let reader = File::open(std::env::current_exe().unwrap()).unwrap();
        odd.file.set(Some(reader)).unwrap();
        assert!(odd.write(&file, 0, &bytes(10_000, 1)).is_err(), "an error that is not about shapes is told");
        let mut found = vec![0; 10_000];
        file.read_exact_at(&mut found, 3).unwrap();
        assert!(found == bytes(10_000, 1));
    }
}

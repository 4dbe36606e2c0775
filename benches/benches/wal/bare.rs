//! The disk itself: one thread, `pwrite` and `fdatasync` in a file that was filled with zeroes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Contender, Failure, Figure, drive};

const FILE_BYTES: u64 = 64 << 20;

struct Bare {
    file: File,
    data: Vec<u8>,
    next: AtomicU64,
}

pub(crate) fn open(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    let file = File::create_new(dir.join("filled"))?;
    let zeroes = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, at)?;
    }
    file.sync_all()?;
    Ok(Box::new(Bare { file, data: vec![0x5a; figure.record], next: AtomicU64::new(0) }))
}

impl Contender for Bare {
    fn slice(&mut self, time: Duration) -> Result<f64, Failure> {
        let len = self.data.len() as u64;
        Ok(drive(1, time, |_| {
            let at = self.next.fetch_add(len, Ordering::Relaxed) % (FILE_BYTES - len);
            self.file.write_all_at(&self.data, at).is_ok() && self.file.sync_data().is_ok()
        }))
    }
}

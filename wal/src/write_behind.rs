//! Write-back of a file that grows, at the disk's pace.

use std::io;

use crate::disk::DiskFile;

/// How far the write-back of one growing file is. No piece is begun before the one before it is on the device, so another file's sync stands
/// behind one piece, not behind all that was written. It makes nothing durable.
#[derive(Debug, Default)]
pub struct WriteBehind {
    /// Write-back is over of what lies before this.
    over: u64,
    /// It has begun of what lies before this.
    begun: u64,
}

impl WriteBehind {
    /// The file is written up to `end`: once `at_least` bytes are new, waits for the piece before and begins the next one.
    ///
    /// # Errors
    /// Those of the system.
    pub fn wrote(&mut self, file: &dyn DiskFile, end: u64, at_least: u64) -> io::Result<()> {
        let WriteBehind { over, begun } = *self;
        if end - begun < at_least {
            return Ok(());
        }
        file.await_write_back(over, begun - over)?;
        file.write_back(begun, end - begun)?;
        *self = WriteBehind { over: begun, begun: end };
        Ok(())
    }
}

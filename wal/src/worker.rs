//! A thread for the background duties of a log, for those who have no loop of their own to call [`Wal::step`] from.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::core::Core;
use crate::wal::{Progress, Wal};

/// What one slice may write, in bytes: a commit never waits for more than that at the disk.
const STEP_BYTES: usize = 256 << 10;
/// How long the thread sleeps when nothing calls it: then it looks whether a purge has become durable or a full disk has room again.
const REST: Duration = Duration::from_millis(100);

/// A thread that keeps a log's spares ready, lets purged files go and starts write-back. It sleeps while there is nothing to do and is
/// woken when a segment is begun or purged. It ends when this is dropped, when the log is, and when the log is poisoned (which every call
/// on the log reports).
///
/// It does not keep the log alive, but it may be at work on it: drop it before you open the same folder again.
///
/// ```
/// # use std::sync::Arc;
/// # use ketch_wal::{Batch, Options, RealDisk, Wal, Worker};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let options = Options { segment_bytes: 64 << 10, ..Options::default() };
/// let wal = Wal::open(Arc::new(RealDisk), folder.path(), options)?.wal;
/// let worker = Worker::spawn(&wal)?;
/// let mut batch = Batch::new();
/// batch.push(1, &[b"spares are ready before they are needed"]);
/// wal.commit(&mut batch)?;
/// drop(worker);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Worker {
    core: Weak<Core>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. One log wants one.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(wal: &Wal) -> io::Result<Worker> {
        let core = Arc::downgrade(wal.core());
        let over = Arc::new(AtomicBool::new(false));
        let (weak, stop) = (Weak::clone(&core), Arc::clone(&over));
        let thread =
            thread::Builder::new().name("wal-worker".to_owned()).spawn(move || serve(&weak, &stop))?;
        wal.core().set_worker(Some(thread.thread().clone()));
        // What came up before it could be called.
        thread.thread().unpark();
        Ok(Worker { core, over, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(core) = self.core.upgrade() {
            core.set_worker(None);
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn serve(core: &Weak<Core>, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let Some(core) = core.upgrade() else { return };
        let progress = core.step(STEP_BYTES);
        drop(core);
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Idle) => thread::park_timeout(REST),
            Err(_) => return,
        }
    }
}

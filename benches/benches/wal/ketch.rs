//! ketch's log, with a thread for its background duties, purged as it grows; its writers are threads, or tasks of one thread.

#[path = "../../../wal/src/bin/walctl/tasks.rs"]
mod tasks;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Options, Progress, RealDisk, Wal};

use crate::{Contender, Failure, Figure, drive};

struct Ketch {
    wal: Arc<Wal>,
    data: Vec<u8>,
    figure: Figure,
    tasks: bool,
    over: Arc<AtomicBool>,
    background: Option<JoinHandle<()>>,
}

pub(crate) fn open(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    open_log(dir, figure, false)
}

pub(crate) fn open_tasks(dir: &Path, figure: Figure) -> Result<Box<dyn Contender>, Failure> {
    open_log(dir, figure, true)
}

fn open_log(dir: &Path, figure: Figure, tasks: bool) -> Result<Box<dyn Contender>, Failure> {
    let wal = Arc::new(Wal::open(Arc::new(RealDisk), dir, Options::default())?.wal);
    while wal.step(1 << 20)? == Progress::More {}
    let over = Arc::new(AtomicBool::new(false));
    let background = {
        let (wal, over) = (wal.clone(), over.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                let segments = wal.segments();
                let keep = segments[segments.len().saturating_sub(2)].first;
                if wal.purge_before(keep).is_err() || !matches!(wal.step(256 << 10), Ok(Progress::More)) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        })
    };
    let data = vec![0x5a; figure.record];
    Ok(Box::new(Ketch { wal, data, figure, tasks, over, background: Some(background) }))
}

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

impl Contender for Ketch {
    fn slice(&mut self, time: Duration) -> Result<f64, Failure> {
        if self.tasks {
            let start = Instant::now();
            let latencies = tasks::run(&self.wal, &self.data, self.figure.writers, time)?;
            return Ok(latencies.len() as f64 / start.elapsed().as_secs_f64());
        }
        Ok(drive(self.figure.writers, time, |_| {
            BATCH.with_borrow_mut(|batch| {
                batch.clear();
                batch.push(1, &[&self.data]);
                self.wal.commit(batch).is_ok()
            })
        }))
    }
}

impl Drop for Ketch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(background) = self.background.take() {
            // A panic in it was reported when it happened.
            let _ = background.join();
        }
    }
}

//! ketch's log, with a thread for its background duties, purged as it grows; its writers are threads, or tasks of one thread.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
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
            return self.run_tasks(time);
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

type Queue = Arc<Mutex<Vec<usize>>>;
type Task<'a> = Pin<Box<dyn Future<Output = Result<u64, ketch_wal::Error>> + 'a>>;

struct Ready {
    number: usize,
    queue: Queue,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

impl Ketch {
    /// The thread that runs the tasks also syncs, whenever all of them wait.
    fn run_tasks(&self, time: Duration) -> Result<f64, Failure> {
        let (writers, start) = (self.figure.writers, Instant::now());
        let queue: Queue = Arc::new(Mutex::new((0..writers).collect()));
        let waker = |number| Waker::from(Arc::new(Ready { number, queue: Arc::clone(&queue) }));
        let wakers: Vec<Waker> = (0..writers).map(waker).collect();
        let mut tasks: Vec<Task<'_>> =
            (0..writers).map(|_| Box::pin(write(&self.wal, &self.data, start, time)) as _).collect();
        let (mut count, mut left, mut ready) = (0, writers, Vec::new());
        while left > 0 {
            std::mem::swap(&mut ready, &mut queue.lock().unwrap_or_else(PoisonError::into_inner));
            if ready.is_empty() {
                self.wal.sync()?;
            }
            for number in ready.drain(..) {
                let mut context = Context::from_waker(&wakers[number]);
                if let Poll::Ready(outcome) = tasks[number].as_mut().poll(&mut context) {
                    count += outcome?;
                    left -= 1;
                }
            }
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }
}

async fn write(wal: &Wal, data: &[u8], start: Instant, time: Duration) -> Result<u64, ketch_wal::Error> {
    let (mut batch, mut count) = (Batch::new(), 0);
    while start.elapsed() < time {
        batch.clear();
        batch.push(1, &[data]);
        let (_, durable) = wal.submit(&mut batch)?;
        durable.await?;
        count += 1;
    }
    Ok(count)
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

//! Writers as tasks of one thread, which is how a server uses a log: whoever waits costs no switch of threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ketch_wal::{Batch, Error, Wal};

type Queue = Arc<Mutex<Vec<usize>>>;
type Task<'a> = Pin<Box<dyn Future<Output = Result<Vec<u64>, Error>> + 'a>>;

/// Puts its task's number into the queue.
struct Ready {
    number: usize,
    queue: Queue,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

/// Latencies in nanoseconds of all that the writers committed. The thread that runs the tasks also syncs, whenever all of them wait.
pub(crate) fn run(wal: &Wal, data: &[u8], writers: usize, time: Duration) -> Result<Vec<u64>, Error> {
    let queue: Queue = Arc::new(Mutex::new((0..writers).collect()));
    let waker = |number| Waker::from(Arc::new(Ready { number, queue: Arc::clone(&queue) }));
    let wakers: Vec<Waker> = (0..writers).map(waker).collect();
    let start = Instant::now();
    let mut tasks: Vec<Task<'_>> =
        (0..writers).map(|_| Box::pin(write(wal, data, start, time)) as _).collect();
    let (mut latencies, mut left, mut ready) = (Vec::new(), writers, Vec::new());
    while left > 0 {
        std::mem::swap(&mut ready, &mut queue.lock().unwrap_or_else(PoisonError::into_inner));
        if ready.is_empty() {
            wal.sync()?;
        }
        for number in ready.drain(..) {
            if let Poll::Ready(outcome) =
                tasks[number].as_mut().poll(&mut Context::from_waker(&wakers[number]))
            {
                latencies.append(&mut outcome?);
                left -= 1;
            }
        }
    }
    Ok(latencies)
}

async fn write(wal: &Wal, data: &[u8], start: Instant, time: Duration) -> Result<Vec<u64>, Error> {
    let (mut batch, mut latencies) = (Batch::new(), Vec::new());
    while start.elapsed() < time {
        let begun = Instant::now();
        batch.clear();
        batch.push(1, &[data]);
        let (_, durable) = wal.submit(&mut batch)?;
        durable.await?;
        latencies.push(begun.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

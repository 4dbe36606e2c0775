//! Threads for what is large: reads of many pairs, hashes, snapshots, and the making of long answers. They give way to those that
//! serve requests, and no request that takes microseconds queues behind one that takes milliseconds.
//!
//! What runs here may be held up at any point, for as long as others have work for all processors. So it takes no lock that a put
//! waits for: it reads a published root of the store and hands finished pieces to its connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::priority;
use crate::stint;

/// How many large reads run at the same time.
const READS_MAX: usize = 4;

/// These threads. Dropping it lets go of what runs there.
#[derive(Debug)]
pub struct Aside {
    runtime: Option<Runtime>,
    reads: Arc<Semaphore>,
}

/// The member stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping;

impl Aside {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> Result<Aside, String> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("ketch-large")
            .on_thread_start(priority::give_way_a_little)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the threads for large answers: {error}"))?;
        Ok(Aside { runtime: Some(runtime), reads: Arc::new(Semaphore::new(READS_MAX)) })
    }

    /// Runs `task` there, with rests.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let task = async move {
            let mut task = pin!(task);
            poll_fn(|context| {
                stint::rest();
                task.as_mut().poll(context)
            })
            .await
        };
        match &self.runtime {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Does `work`, which may wait for the disk, at once.
    pub fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }

    /// Does `work` when there is a place for it among the large reads.
    ///
    /// # Errors
    /// The member stops.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let place = Arc::clone(&self.reads).acquire_owned().await.map_err(|_closed| Stopping)?;
        // The place belongs to the work: a client that goes away does not make room while its read still runs.
        let work = move || {
            let _place = place;
            work()
        };
        self.block(work).await.map_err(|_gone| Stopping)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nobody waits for it, which may be one of its own threads.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_and_tasks_run_on_its_own_threads() {
        let aside = Aside::start().unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(aside.read(name).await.unwrap().as_deref(), Some("ketch-large"));
        assert_eq!(aside.spawn(async move { name() }).await.unwrap().as_deref(), Some("ketch-large"));
    }

    #[tokio::test]
    async fn a_place_belongs_to_the_read_and_not_to_who_waits_for_it() {
        let aside = Arc::new(Aside::start().unwrap());
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(std::sync::Mutex::new(gone));
        for _ in 0..READS_MAX {
            let (aside, gone, (began, begins)) =
                (Arc::clone(&aside), Arc::clone(&gone), tokio::sync::oneshot::channel());
            let waits = tokio::spawn(async move {
                let work = move || {
                    let _heard = began.send(());
                    let _told = gone.lock().unwrap().recv();
                };
                aside.read(work).await
            });
            begins.await.unwrap();
            waits.abort();
            assert!(waits.await.unwrap_err().is_cancelled());
        }
        assert_eq!(aside.reads.available_permits(), 0);
        drop(go);
        aside.read(|| ()).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_of_its_own_tasks_may_let_go_of_it() {
        let aside = Arc::new(Aside::start().unwrap());
        let (told, tells) = tokio::sync::oneshot::channel();
        let own = Arc::clone(&aside);
        let (let_go, goes) = tokio::sync::oneshot::channel::<()>();
        drop(aside.spawn(async move {
            let _ = goes.await;
            drop(own);
            let _ = told.send(());
        }));
        drop(aside);
        let_go.send(()).unwrap();
        tells.await.unwrap();
    }
}

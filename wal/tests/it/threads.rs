//! Many threads on one log: group commit, handles, readers beside writers.

use std::future::Future;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use ketch_wal::sim::{Fault, Op};
use ketch_wal::{Batch, Error, Options, Position, RealDisk, SimDisk, Wal};

use crate::basics::{open, put, small};

#[test]
fn many_threads_share_syncs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 << 10, ..small() };
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), options.clone()).unwrap().wal;
    let (threads, each) = (8, 50);
    thread::scope(|scope| {
        for t in 0..threads {
            let wal = &wal;
            scope.spawn(move || {
                let mut batch = Batch::new();
                for i in 0..each {
                    batch.clear();
                    batch.push(t, &[format!("{t}.{i} {}", "c".repeat(200)).as_bytes()]);
                    let appended = wal.commit(&mut batch).unwrap();
                    assert!(wal.durable_upto() >= appended.end);
                    let record = wal.read(appended.first).unwrap();
                    assert!(record.data.starts_with(format!("{t}.{i} ").as_bytes()));
                    wal.step(16 << 10).unwrap();
                }
            });
        }
    });
    let stats = wal.stats();
    assert_eq!(stats.records, u64::from(threads) * each);
    assert!(stats.syncs <= stats.records + 1, "{stats:?}");
    drop(wal);
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), options).unwrap().wal;
    let mut next = vec![0; threads as usize];
    for record in wal.iter(Position::START) {
        let record = record.unwrap();
        let t = record.kind as usize;
        assert!(record.data.starts_with(format!("{t}.{} ", next[t]).as_bytes()));
        next[t] += 1;
    }
    assert!(next.iter().all(|n| *n == each));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_handle_is_polled_blocked_on_and_awaited() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    let mut batch = Batch::new();
    batch.push(1, &[b"submitted"]);
    let (appended, durable) = wal.submit(&mut batch).unwrap();
    assert!(!durable.poll().unwrap());
    // Readable although nothing was written yet.
    assert_eq!(wal.read(appended.first).unwrap().data, "submitted");
    durable.wait().unwrap();
    assert!(durable.poll().unwrap());
    block_on(durable).unwrap();
    batch.clear();
    batch.push(1, &[b"awaited"]);
    let (_, durable) = wal.submit(&mut batch).unwrap();
    thread::scope(|scope| {
        let task = scope.spawn(|| block_on(durable));
        wal.sync().unwrap();
        task.join().unwrap().unwrap();
    });
}

struct Count(std::sync::atomic::AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    }
}

#[test]
fn a_handle_waits_once_however_often_it_is_polled() {
    let disk = SimDisk::new(1);
    let wal = open(&disk, small()).wal;
    put(&wal, "x");
    let wakers: Vec<_> = (0..3).map(|_| Arc::new(Count(0.into()))).collect();
    let poll = |durable: &mut ketch_wal::Durable, waker: &Arc<Count>| {
        let waker = Waker::from(Arc::clone(waker));
        std::pin::Pin::new(durable).poll(&mut Context::from_waker(&waker))
    };
    let mut durable = wal.durable(wal.end());
    // From task to task: only the last one is woken. A handle that was dropped wakes nobody.
    assert!(poll(&mut durable, &wakers[0]).is_pending());
    assert!(poll(&mut durable, &wakers[1]).is_pending());
    assert!(poll(&mut durable.clone(), &wakers[2]).is_pending());
    wal.sync().unwrap();
    assert!(poll(&mut durable, &wakers[1]).is_ready());
    let woken: Vec<_> =
        wakers.iter().map(|waker| waker.0.load(std::sync::atomic::Ordering::Acquire)).collect();
    assert_eq!(woken, [0, 1, 0]);
}

#[test]
fn a_failed_sync_reaches_every_waiter() {
    let disk = SimDisk::new(2);
    let wal = open(&disk, small()).wal;
    disk.fail(Op::Sync, 0, Fault::Eio);
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|i| {
                let wal = &wal;
                scope.spawn(move || {
                    let mut batch = Batch::new();
                    batch.push(1, &[&[i]]);
                    match wal.commit(&mut batch) {
                        Err(error) => error,
                        Ok(_) => wal.sync().unwrap_err(),
                    }
                })
            })
            .collect();
        for waiter in waiters {
            assert!(matches!(waiter.join().unwrap(), Error::Poisoned { .. }));
        }
    });
    let (_, durable) = (put_fails(&wal), wal.durable(wal.end()));
    assert!(matches!(block_on(durable), Err(Error::Poisoned { .. })));
}

/// Eight threads commit; the disk panics under the first `op` of the one that works for all, when the others are there.
fn panics_at(op: Op) {
    let disk = SimDisk::new(3);
    let wal = open(&disk, small()).wal;
    let arrived = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&arrived);
    disk.set_hook(Some(Arc::new(move |_: &SimDisk, at, _: &std::path::Path| {
        if at == op {
            while seen.load(std::sync::atomic::Ordering::Acquire) < 8 {
                thread::yield_now();
            }
            panic!("the disk panics, as planned");
        }
    })));
    let handle = wal.durable(put_submitted(&wal));
    thread::scope(|scope| {
        let task = scope.spawn(|| block_on(handle));
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    batch.push(1, &[b"waits"]);
                    arrived.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                    wal.commit(&mut batch)
                })
            })
            .collect();
        let outcomes: Vec<_> = waiters.into_iter().map(thread::ScopedJoinHandle::join).collect();
        assert!(outcomes.iter().any(Result::is_err), "{op:?}: somebody's disk panicked");
        for outcome in outcomes.into_iter().flatten() {
            assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{op:?}: {outcome:?}");
        }
        assert!(matches!(task.join().unwrap(), Err(Error::Poisoned { .. })));
    });
    disk.set_hook(None);
    assert!(matches!(wal.sync(), Err(Error::Poisoned { .. })));
}

fn put_submitted(wal: &Wal) -> Position {
    let mut batch = Batch::new();
    batch.push(1, &[b"submitted"]);
    wal.submit(&mut batch).unwrap().0.end
}

#[test]
fn a_panic_under_a_sync_or_a_write_reaches_every_waiter() {
    panics_at(Op::Sync);
    panics_at(Op::Write);
}

#[test]
fn a_panic_under_an_append_poisons() {
    let disk = SimDisk::new(3);
    let wal = open(&disk, small()).wal;
    disk.set_hook(Some(Arc::new(|_: &SimDisk, op, _: &std::path::Path| {
        assert!(op != Op::Write, "the disk panics, as planned");
    })));
    let panicked = thread::scope(|scope| scope.spawn(|| put(&wal, "not written")).join());
    assert!(panicked.is_err());
    disk.set_hook(None);
    assert!(matches!(wal.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(wal.iter(Position::START).filter(Result::is_ok).count(), 0);
}

/// Wakes nobody: it panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("the waker panics, as planned");
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    let disk = SimDisk::new(4);
    let wal = open(&disk, small()).wal;
    let upto = put_submitted(&wal);
    let (panics, counts) = (Waker::from(Arc::new(Panics)), Arc::new(Count(0.into())));
    let mut handles: Vec<_> = (0..5).map(|_| wal.durable(upto)).collect();
    for (i, handle) in handles.iter_mut().enumerate() {
        let waker = if i == 1 { panics.clone() } else { Waker::from(Arc::clone(&counts)) };
        assert!(std::pin::Pin::new(handle).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(thread::scope(|scope| scope.spawn(|| wal.sync()).join()).is_err());
    assert_eq!(counts.0.load(std::sync::atomic::Ordering::Acquire), 4);
    // The round itself was well.
    put(&wal, "more");
    wal.sync().unwrap();
}

fn put_fails(wal: &Wal) {
    let mut batch = Batch::new();
    batch.push(1, &[b"no"]);
    assert!(wal.append(&mut batch).is_err());
}

#[test]
fn readers_go_on_while_segments_are_purged_and_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 16 << 10, spare_segments: 2, ..small() };
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), options).unwrap().wal;
    let wal = &wal;
    let latest = std::sync::Mutex::new(put(wal, &"0".repeat(800)));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Vec::new();
                    loop {
                        let at = *latest.lock().unwrap();
                        if at == Position::START {
                            break;
                        }
                        match wal.read(at) {
                            Ok(record) => kept.push((record.data.to_vec(), record.data)),
                            Err(Error::Purged { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                        if kept.len() > 200 {
                            kept.drain(..100);
                        }
                    }
                    assert!(kept.iter().all(|(copy, bytes)| copy == bytes));
                })
            })
            .collect();
        for i in 0..500u32 {
            let at = put(wal, &char::from(b'a' + (i % 26) as u8).to_string().repeat(800));
            *latest.lock().unwrap() = at;
            if i % 20 == 19 {
                wal.sync().unwrap();
                wal.purge_before(at).unwrap();
                wal.sync().unwrap();
            }
            wal.step(8 << 10).unwrap();
        }
        *latest.lock().unwrap() = Position::START;
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_worker_keeps_spares_ready_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 16 << 10, spare_segments: 2, ..small() };
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), options.clone()).unwrap().wal;
    let worker = ketch_wal::Worker::spawn(&wal).unwrap();
    // Spares come without anybody calling `step`, again and again.
    for _ in 0..10 {
        while wal.stats().spares < 2 {
            thread::yield_now();
        }
        let at = put(&wal, &"w".repeat(9000));
        put(&wal, &"w".repeat(9000));
        wal.sync().unwrap();
        wal.purge_before(at).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(wal.stats().spare_misses, 0);
    drop(worker);
    drop(wal);
    // It ends by itself when the log does; a new one finds the folder free.
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), options).unwrap().wal;
    let worker = ketch_wal::Worker::spawn(&wal).unwrap();
    wal.close().unwrap();
    drop(worker);
}

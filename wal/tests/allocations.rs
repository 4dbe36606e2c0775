//! Appending and committing allocate nothing in steady state. A binary of its own, because the allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use ketch_wal::{Batch, Options, Progress, RealDisk, Wal};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter is a constant-initialised cell without a destructor, so
// touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(mut work: impl FnMut()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn appends_and_commits_allocate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(Arc::new(RealDisk), dir.path(), Options::default()).unwrap().wal;
    while wal.step(4 << 20).unwrap() == Progress::More {}
    let (mut batch, data) = (Batch::new(), [7; 300]);
    let mut fill = |records: usize, commit: bool| {
        batch.clear();
        for _ in 0..records {
            batch.push(1, &[&data]);
        }
        if commit { wal.commit(&mut batch) } else { wal.append(&mut batch) }.unwrap();
    };
    // The vectors grow to what they need.
    for commit in [false, true, false, true] {
        fill(64, commit);
    }
    let appends = allocations(|| (0..500).for_each(|_| fill(64, false)));
    let commits = allocations(|| (0..20).for_each(|_| fill(1, true)));
    assert_eq!((appends, commits), (0, 0));
    assert_eq!(wal.stats().segments, 1, "the steady state of one segment was meant");
}

//! The step that publishes a root, and the one that gives its memory back, through every interleaving of a writer and its readers: the store's own file, compiled with
//! the locks and atomics of a model checker, which also plays with the order in which writes become visible.

use std::sync::Arc;

/// Two slots, so that a reader is overtaken by the writer in short runs, too.
mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(super) use loom::sync::{Mutex, RwLock};

    pub(super) const SLOTS: usize = 2;
}

#[path = "../../src/index/publish.rs"]
mod publish;
#[path = "../../src/index/released.rs"]
mod released;

use publish::Cell;
use released::Released;

/// Every run with up to so many switches between threads that nobody asked for.
fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(run);
}

/// What a published value is made of is seen by whoever sees the value, and nobody goes back in time.
#[test]
fn readers_never_go_back() {
    model(3, || {
        let cell = Arc::new(Cell::new(Arc::new(0)));
        let readers = [(); 2].map(|()| {
            let cell = Arc::clone(&cell);
            loom::thread::spawn(move || {
                let (first, second) = (*cell.get(), *cell.get());
                assert!(first <= second, "{second} after {first}");
            })
        });
        drop(cell.set(Arc::new(1)));
        drop(cell.set(Arc::new(2)));
        assert_eq!(*cell.get(), 2);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(*cell.get(), 2);
    });
}

/// A reader that starts after a value was published sees it; the value before is kept by nobody but its readers.
#[test]
fn what_is_published_is_seen_and_what_it_replaced_is_let_go() {
    model(4, || {
        let first = Arc::new(1);
        let cell = Arc::new(Cell::new(Arc::clone(&first)));
        let reader = {
            let cell = Arc::clone(&cell);
            loom::thread::spawn(move || *cell.get())
        };
        drop(cell.set(Arc::new(2)));
        let late = {
            let cell = Arc::clone(&cell);
            loom::thread::spawn(move || assert_eq!(*cell.get(), 2))
        };
        assert!((1..=2).contains(&reader.join().unwrap()));
        late.join().unwrap();
        cell.tidy();
        assert_eq!(Arc::strong_count(&first), 1);
    });
}

/// Two pieces of memory, of a generation each.
struct Pieces([loom::cell::UnsafeCell<i32>; 2]);

// SAFETY: that nobody reads while somebody writes is what the model checker finds out.
unsafe impl Sync for Pieces {}

/// A reader is done with memory before it says so, and the writer uses it again after it has heard so: the two never meet.
#[test]
fn memory_is_not_used_again_under_a_reader() {
    model(4, || {
        let memory = Arc::new(Pieces([(); 2].map(|()| loom::cell::UnsafeCell::new(7))));
        let released = Arc::new(Released::default());
        let readers = [0, 1].map(|generation: u64| {
            let (memory, released) = (Arc::clone(&memory), Arc::clone(&released));
            loom::thread::spawn(move || {
                // SAFETY: the model checker notices who writes meanwhile.
                let read = memory.0[generation as usize].with(|at| unsafe { *at });
                released.push(generation);
                assert_eq!(read, 7, "written to while it was read");
            })
        });
        let mut reused = 0;
        let mut room = Vec::new();
        for _ in 0..3 {
            room = released.take(room);
            for generation in room.drain(..) {
                // SAFETY: as above.
                memory.0[generation as usize].with_mut(|at| unsafe { *at = 8 });
                reused += 1;
            }
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let rest = released.take(room).len();
        assert_eq!(reused + rest, 2, "each is heard of once");
    });
}

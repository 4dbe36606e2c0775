//! The step that publishes a root, through every interleaving of a writer and its readers: the store's own file, compiled with
//! the locks and atomics of a model checker, which also plays with the order in which writes become visible.

use std::sync::Arc;

/// Two slots, so that a reader is overtaken by the writer in short runs, too.
mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::RwLock;
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};

    pub(super) const SLOTS: usize = 2;
}

#[path = "../../src/index/publish.rs"]
mod publish;

use publish::Cell;

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

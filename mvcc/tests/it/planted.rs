//! Every planted bug is noticed by the same histories that the store passes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ketch_mvcc::planted::{Bug, plant};

use crate::directed::{files_shrink, old_counts};
use crate::histories::run;
use crate::history::history;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Which case notices the bug: 0 for the directed ones, else a history.
/// What they print while they do is of no interest.
fn noticed(bug: Bug) -> Option<u64> {
    plant(Some(bug));
    QUIET.set(true);
    let fails = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();
    let found = if fails(&old_counts) || fails(&files_shrink) {
        Some(0)
    } else {
        (0..500).find(|&seed| fails(&|| run(seed, &history(seed, if seed % 4 == 3 { 250 } else { 40 }))))
    };
    QUIET.set(false);
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_noticed() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            print(info);
        }
    }));
    let missed: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|&bug| {
            let found = noticed(bug);
            eprintln!("{bug:?}: noticed by history {found:?}");
            found.is_none()
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

//! Hands committed changes on to watchers, on a thread of its own: however many watchers there are, writers only leave a note that
//! there is something new. Nothing here waits for a clock; a lone event is handed on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ketch_mvcc::Progress;

use crate::api::watch::Watches;
use crate::consensus::shell::{Driver, Stopped};
use crate::stint;

/// How many hand-overs, of one event to one watcher, may be done before streams get at the hub again.
const HAND_OVERS: usize = 16 << 10;
/// At most and at least so many events are handed on in one step.
const EVENTS_MAX: usize = 1024;
const EVENTS_MIN: usize = 8;

/// The delivery thread's life, until `stop` is set.
pub fn run(watches: &Watches, driver: &Arc<Driver>, stop: &AtomicBool) {
    let me = std::thread::current();
    let hub = watches.hub();
    hub.set_notify(Arc::new(move || me.unpark()));
    while !stop.load(Ordering::SeqCst) && driver.stopped().is_none() {
        let (watchers, _late) = hub.watchers();
        let budget = (HAND_OVERS / watchers.max(1)).clamp(EVENTS_MIN, EVENTS_MAX);
        let step = hub.step(budget);
        watches.delivered();
        match step {
            // Somebody catches up, which may take a while.
            Ok(Progress::More) if hub.is_scanning() => stint::rest(),
            Ok(Progress::More) => {}
            // A note left since the step began ends the rest at once.
            Ok(Progress::Idle) => std::thread::park(),
            Err(fault) => driver.stop(Stopped(format!("the store failed: {fault}"))),
        }
    }
}

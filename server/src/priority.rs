//! Threads that give way: what nobody waits for, or not as one waits for a put, leaves the processors to what somebody does.
//!
//! Two things decide that on Linux. **Niceness** is how much of a processor a thread gets where there is not enough for all. The
//! **slice** that it asks for is how long it would like to run without a break: one that asks for more than others is put off at once
//! when one of them wakes up, where it may else go on until the next tick of the clock, four milliseconds on many systems (Linux
//! 6.12 and later; earlier ones do not hear of it). It takes nothing from the thread's share.

use std::time::Duration;

/// As far behind others as 10 steps of `nice` put it: it gets what they leave, and a tenth where they leave nothing.
const STEPS: i32 = 10;

/// As far behind as 5 steps put it: a third where the others leave nothing. A client waits for what it does.
const STEPS_WAITED_FOR: i32 = 5;

/// The longest slice that Linux grants.
const LONG_SLICE: Duration = Duration::from_millis(100);

/// Puts the calling thread, and no other, behind those that serve requests. Where the system has no such thing it goes on as before.
pub fn give_way() {
    step_back(STEPS, Duration::ZERO);
}

/// The same for work that a client waits for, though not one with a short request: it gets a third of what others get where there
/// is not enough for all, and is put off as soon as one of them has something to do.
pub fn give_way_a_little() {
    step_back(STEPS_WAITED_FOR, LONG_SLICE);
}

/// The calling thread has its full share, but is put off as soon as another one has something to do: for duties that hold locks
/// which others want, and that must keep up with those who cause them.
pub fn give_way_at_once() {
    step_back(0, LONG_SLICE);
}

#[cfg(not(target_os = "linux"))]
fn step_back(_steps: i32, _slice: Duration) {}

#[cfg(target_os = "linux")]
fn step_back(steps: i32, slice: Duration) {
    // SAFETY: no pointers; 0 names the calling thread, as Linux counts niceness for each.
    let steps = steps.max(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) });
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        flags: KEEP_POLICY,
        nice: steps,
        runtime: u64::try_from(slice.as_nanos()).unwrap_or(0),
        ..Attributes::default()
    };
    // SAFETY: the system reads as many bytes of the structure as it says it has; 0 names the calling thread, and flags there are none.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused {
        // SAFETY: no pointers. It may be refused: that only costs the order among threads.
        let _refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, steps) };
    }
}

/// `struct sched_attr` of sched_setattr(2), in its first version.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The policy stays what it is.
#[cfg(target_os = "linux")]
const KEEP_POLICY: u64 = 8;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Niceness, and the slice in nanoseconds: zero before Linux 6.12.
    fn standing() -> (i32, u64) {
        let mut attributes = Attributes::default();
        let size = size_of::<Attributes>();
        // SAFETY: the system writes as many bytes as it is told there are.
        let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
        assert_eq!(done, 0);
        (attributes.nice, attributes.runtime)
    }

    #[test]
    fn only_the_calling_thread_gives_way() {
        let before = standing();
        let long = if before.1 == 0 { 0 } else { 100_000_000 };
        for (give_way, steps, slice) in [
            (give_way as fn(), STEPS, before.1),
            (give_way_a_little, STEPS_WAITED_FOR, long),
            (give_way_at_once, 0, long),
        ] {
            let inside = std::thread::spawn(move || {
                give_way();
                standing()
            });
            assert_eq!((inside.join().unwrap(), standing()), ((steps.max(before.0), slice), before));
        }
    }
}

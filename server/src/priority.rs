//! Threads that give way: what nobody waits for leaves the processors to what somebody does.

/// As far behind others as 10 steps of `nice` put it: it gets what they leave, and a tenth where they leave nothing.
#[cfg(target_os = "linux")]
const STEPS: libc::c_int = 10;

/// Puts the calling thread, and no other, behind those that serve requests. Where the system has no such thing it goes on as before.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers; 0 names the calling thread, as Linux counts niceness for each.
    unsafe {
        // It may be refused: that only costs the order among threads.
        let _refused = libc::setpriority(libc::PRIO_PROCESS, 0, STEPS);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn nice() -> libc::c_int {
        // SAFETY: no pointers.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn only_the_calling_thread_gives_way() {
        let before = nice();
        let inside = std::thread::spawn(|| {
            give_way();
            nice()
        });
        assert_eq!((inside.join().unwrap(), nice()), (STEPS.max(before), before));
    }
}

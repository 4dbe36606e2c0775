//! Calls of the system that the standard library lacks, each behind a safe function.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::disk::Space;

/// Starts write-back of a range without waiting, or waits until one that has begun `is_over`, where the system can; elsewhere it does
/// nothing.
pub(crate) fn write_back(file: &File, offset: u64, len: u64, is_over: bool) -> io::Result<()> {
    // To the system no bytes are all bytes.
    if len == 0 {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    {
        let flags = if is_over { libc::SYNC_FILE_RANGE_WAIT_BEFORE } else { libc::SYNC_FILE_RANGE_WRITE };
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call touches no memory of ours.
        let result = unsafe {
            libc::sync_file_range(file.as_raw_fd(), offset as libc::off64_t, len as libc::off64_t, flags)
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            // A system or file system without the call: the sync does all of it then.
            if !matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP)
            ) {
                return Err(error);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file.as_raw_fd(), offset, is_over);
    Ok(())
}

/// Sleeps while `word` is `seen`; returns at once if it is not, and perhaps for no reason.
#[cfg(target_os = "linux")]
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32) {
    // SAFETY: the word outlives the call, which only reads it; no timeout is given. Every outcome is a reason to look again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            seen,
            std::ptr::null::<libc::timespec>(),
        );
    }
}

/// Wakes up to `count` threads that sleep at `word`.
#[cfg(target_os = "linux")]
pub(crate) fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word outlives the call, which does not touch its value.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count);
    }
}

/// The room in the file system that holds `dir`.
pub(crate) fn space(dir: &Path) -> io::Result<Space> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a C string and `stat` has room for the struct that the call fills in.
    let result = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the whole struct is filled in.
    let stat = unsafe { stat.assume_init() };
    let unit = stat.f_frsize;
    Ok(Space { free_bytes: stat.f_bavail * unit, total_bytes: stat.f_blocks * unit })
}

/// Takes an exclusive lock that ends with the file; `WouldBlock` when another has it.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call touches no memory of ours.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a mapped file lies, for the signal handler: it may only touch atomics.
struct Watched {
    start: AtomicUsize,
    len: AtomicUsize,
    inode: AtomicU64,
}

const WATCHED_MAX: usize = 1024;

static WATCHED: [Watched; WATCHED_MAX] =
    [const { Watched { start: AtomicUsize::new(0), len: AtomicUsize::new(0), inode: AtomicU64::new(0) } };
        WATCHED_MAX];

/// Taken by those who change the table; the handler only reads it.
static WATCHING: Mutex<()> = Mutex::new(());

/// Enters a map into the table; `None` when it is full, then an error under this map is not named.
pub(crate) fn watch(start: usize, len: usize, inode: u64) -> Option<usize> {
    let _guard = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = WATCHED.iter().position(|watched| watched.len.load(Ordering::Relaxed) == 0)?;
    WATCHED[slot].start.store(start, Ordering::Relaxed);
    WATCHED[slot].inode.store(inode, Ordering::Relaxed);
    WATCHED[slot].len.store(len, Ordering::Release);
    Some(slot)
}

/// Takes a map out of the table, before it is unmapped.
pub(crate) fn unwatch(slot: usize) {
    let _guard = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
    WATCHED[slot].len.store(0, Ordering::Release);
}

static NAMED: Mutex<bool> = Mutex::new(false);

/// Names the file when an access through a map of the log fails (SIGBUS: an I/O error, or somebody cut the file), on standard
/// error; the process then ends by that signal, as it would have without a name. For a server's start; a second call does nothing.
///
/// # Errors
/// Those of the system.
pub fn name_bus_errors() -> io::Result<()> {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if *named {
        return Ok(());
    }
    // SAFETY: a zeroed `sigaction` is a valid value of the struct of integers that it is.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    // One shot: the handler returns, the access fails again, and the default action ends the process.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_ONSTACK;
    // SAFETY: the struct lives for the call, nothing is asked back; the handler has the signature that SA_SIGINFO asks for and calls only
    // functions that are allowed in a signal handler.
    if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    *named = true;
    Ok(())
}

extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a valid siginfo to a handler installed with SA_SIGINFO; SIGBUS fills in the address.
    let at = unsafe { (*info).si_addr() } as usize;
    let mut line = Line { bytes: [0; 160], len: 0 };
    line.text(b"ketch-wal: SIGBUS: the disk failed, or a file was cut short, under a memory map");
    for watched in &WATCHED {
        let (start, len) = (watched.start.load(Ordering::Relaxed), watched.len.load(Ordering::Acquire));
        if (start..start.saturating_add(len)).contains(&at) {
            line.text(b": inode ");
            line.number(watched.inode.load(Ordering::Relaxed));
            line.text(b", offset ");
            line.number((at - start) as u64);
        }
    }
    line.text(b"\n");
    // SAFETY: the buffer lives for the call, and write may be called in a signal handler.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len) };
}

/// A line put together without allocating.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(free) = self.bytes.get_mut(self.len) {
                *free = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, mut number: u64) {
        let (mut digits, mut at) = ([b'0'; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.text(&digits[at..]);
    }
}

/// Asks for the cache lines of `bytes` without waiting for any of them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn prefetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in bytes.chunks(64) {
        // SAFETY: a prefetch changes nothing and cannot fail, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Reads a byte of each cache line: other processors' ways of asking are not for every compiler.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(64).fold(0u8, |sum, &byte| sum ^ byte));
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_hint_that_the_system_lacks_is_no_error() -> io::Result<()> {
        let (_, pipe) = io::pipe()?;
        let pipe = File::from(OwnedFd::from(pipe));
        write_back(&pipe, 0, 4096, false).and_then(|()| write_back(&pipe, 0, 4096, true))
    }
}

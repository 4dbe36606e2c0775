//! Memory that the allocator keeps though nobody uses it: after a burst of requests it is given back to the system.
//!
//! glibc returns what lies at the end of an arena only. The buffers of a thousand requests leave free pages in the middle; they would stay
//! resident for the life of the process.

/// So much may be resident beyond what is in use: stacks, partly used pages, and what the next burst takes.
const KEEP_BYTES: u64 = 8 << 20;

/// Gives unused pages back if many are resident. Takes the allocator's locks for about a millisecond then. Cheap if there is nothing to do;
/// a call every few seconds is often enough. Reads `/proc`.
pub fn give_back() {
    if let (Some(resident), Some(used)) = (anonymous_bytes(), used_bytes())
        && resident > used + KEEP_BYTES
    {
        trim();
    }
}

/// Resident pages of this process that no file backs.
fn anonymous_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared) * page_bytes()?)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn page_bytes() -> Option<u64> {
    // SAFETY: no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

/// What the program holds: small pieces in arenas, large ones in maps of their own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn used_bytes() -> Option<u64> {
    // SAFETY: no arguments, no preconditions; it may be called from any thread.
    let info = unsafe { libc::mallinfo2() };
    u64::try_from(info.uordblks + info.hblkhd).ok()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: no preconditions; it only tells the system that pages which the allocator holds free may go.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators see to it themselves, or cannot be asked.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn page_bytes() -> Option<u64> {
    None
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn used_bytes() -> Option<u64> {
    None
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

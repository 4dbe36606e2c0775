//! Processor time and memory of a process, from `/proc` (Linux).

use std::fs;
use std::io;
use std::time::Duration;

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Heap and stacks: what the process itself needs.
    pub anonymous: u64,
    /// Pages of mapped files: the system may take them back at any time.
    pub file_backed: u64,
}

/// User and system time that all threads of a process have used so far, in steps of the clock tick (10 ms).
///
/// # Errors
///
/// The process is gone, or this is not Linux.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = parse_stat(&stat).ok_or_else(|| io::Error::other("unexpected /proc/<pid>/stat"))?;
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u32::try_from(per_second).ok().filter(|ticks| *ticks > 0).unwrap_or(100);
    Ok(Duration::from_secs(ticks) / per_second)
}

/// Resident memory of a process.
///
/// # Errors
///
/// The process is gone, or this is not Linux.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let bytes = |name| kilobytes(&status, name).map(|kib| kib * 1024);
    match (bytes("RssAnon:"), bytes("RssFile:")) {
        (Some(anonymous), Some(file_backed)) => Ok(Memory { anonymous, file_backed }),
        _ => Err(io::Error::other("unexpected /proc/<pid>/status")),
    }
}

/// Sum of utime and stime. The program's name may contain spaces and brackets: fields count from its end.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The number on the line that starts with `name`.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 23 0 0";
        assert_eq!(parse_stat(stat), Some(123));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(memory(std::process::id()).unwrap().anonymous > 0);
        cpu_time(std::process::id()).unwrap();
    }
}

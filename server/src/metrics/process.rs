//! What the operating system knows about this process, asked at each scrape. Absent where there is no `/proc`.

use std::fs;

use super::text::Page;

/// Clock ticks a second of `/proc`; Linux has reported 100 to user space for decades, whatever the kernel uses.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Fields of `/proc/self/stat`, counted from the one after the command's closing parenthesis.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;
const VIRTUAL_BYTES: usize = 20;
const RESIDENT_PAGES: usize = 21;

/// Adds every family that can be read.
pub(crate) fn render(page: &mut Page) {
    descriptors(page);
    network(page);
    let Some(stat) = fs::read_to_string("/proc/self/stat").ok() else { return };
    // The command may hold blanks and parentheses: everything after the last one is numbers.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (number(USER_TICKS), number(SYSTEM_TICKS)) {
        let seconds = to_f64(user + system) / TICKS_PER_SECOND;
        page.family("process_cpu_seconds_total", "counter", "User and system time in seconds")
            .sample(&[], seconds);
    }
    if let Some(pages) = number(RESIDENT_PAGES) {
        gauge(page, "process_resident_memory_bytes", "Resident memory in bytes", pages * PAGE_BYTES);
    }
    if let (Some(ticks), Some(boot)) = (number(START_TICKS), boot_time()) {
        let start = to_f64(boot) + to_f64(ticks) / TICKS_PER_SECOND;
        page.family("process_start_time_seconds", "gauge", "Start of the process, seconds since 1970")
            .sample(&[], start);
    }
    if let Some(bytes) = number(VIRTUAL_BYTES) {
        gauge(page, "process_virtual_memory_bytes", "Virtual memory in bytes", bytes);
    }
    if let Some(max) = limit("Max address space") {
        // Go's client shows "unlimited" as the largest number of 64 bits.
        page.family("process_virtual_memory_max_bytes", "gauge", "Limit of virtual memory in bytes")
            .sample(&[], to_f64(max));
    }
}

fn descriptors(page: &mut Page) {
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
    let limit = file_limit();
    if let Some(limit) = limit {
        gauge(page, "os_fd_limit", "Limit of open file descriptors", limit);
    }
    if let Some(open) = open {
        gauge(page, "os_fd_used", "Open file descriptors", open);
    }
    if let Some(limit) = limit {
        gauge(page, "process_max_fds", "Limit of open file descriptors", limit);
    }
    if let Some(open) = open {
        gauge(page, "process_open_fds", "Open file descriptors", open);
    }
}

/// Bytes of all that the network namespace of this process received and sent by IP, which is what Go's client shows too.
fn network(page: &mut Page) {
    let Ok(table) = fs::read_to_string("/proc/self/net/netstat") else { return };
    for (name, column, help) in [
        ("process_network_receive_bytes_total", "InOctets", "Bytes received over the network"),
        ("process_network_transmit_bytes_total", "OutOctets", "Bytes sent over the network"),
    ] {
        if let Some(bytes) = ip_octets(&table, column) {
            page.family(name, "counter", help).sample(&[], bytes);
        }
    }
}

/// A number of the pair of lines that begin with `IpExt:`: names in the first, numbers in the second.
fn ip_octets(table: &str, column: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace());
    pairs.find(|(name, _)| *name == column)?.1.parse().ok()
}

/// The soft limit of open files.
pub(crate) fn file_limit() -> Option<u64> {
    limit("Max open files")
}

/// A soft limit of the process by its name; the largest number if there is none.
fn limit(name: &str) -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Seconds since 1970 at which the machine started.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn gauge(page: &mut Page, name: &str, help: &str, value: u64) {
    page.family(name, "gauge", help).sample(&[], value);
}

#[expect(clippy::cast_precision_loss, reason = "a scrape is a floating point number")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn octets_are_found_by_their_names() {
        let table = "TcpExt: InOctets A\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 70 9\n";
        assert_eq!(
            ["InOctets", "OutOctets", "A"].map(|name| ip_octets(table, name)),
            [Some(70), Some(9), None]
        );
        assert_eq!(ip_octets("IpExt: InOctets\n", "InOctets"), None);
    }

    #[test]
    fn linux_tells_all_of_it() {
        let mut page = Page::default();
        render(&mut page);
        let page = page.finish();
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "start_time_seconds",
            "open_fds",
            "max_fds",
            "network_receive_bytes_total",
            "network_transmit_bytes_total",
            "virtual_memory_max_bytes",
        ] {
            let line = page.lines().find_map(|line| line.strip_prefix(&format!("process_{name} "))).unwrap();
            assert!(line.parse::<f64>().unwrap() >= 0.0, "{name}: {line}");
        }
    }
}

//! Memory that a burst left unused, in a process of its own: what other tests hold would be counted too.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "in tests a panic is the message")]

use ketch_server::memory::give_back;

/// Resident pages that no file backs, in kibibytes.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_free_in_the_middle_goes_and_what_is_used_stays() {
    // Pieces of three pages; every fourth stays, so that hardly anything that is free lies at an end.
    let fill = |n: usize| vec![n as u8; 12_000];
    let mut pieces: Vec<(usize, Vec<u8>)> = (0..8000).map(|n| (n, fill(n))).collect();
    let full = anonymous_kib();
    pieces.retain(|(n, _)| n % 4 == 0);
    give_back();
    let left = anonymous_kib();
    assert!(full > left + (48 << 10), "{full} KiB were resident, {left} are");
    assert!(pieces.iter().all(|(n, piece)| *piece == fill(*n)));
}

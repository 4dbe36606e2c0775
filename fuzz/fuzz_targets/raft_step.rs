//! Any sequence of messages, requests and reports into one raft node: it may refuse, it may fault, it never panics.
#![no_main]

#[path = "../../raft/tests/it/stepping.rs"]
mod stepping;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stepping::run(data));

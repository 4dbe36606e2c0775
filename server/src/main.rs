//! The `ketch` binary.

fn main() {}

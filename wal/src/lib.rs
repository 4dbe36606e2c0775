//! A segmented, checksummed write-ahead log with group commit and zero-filled segments.

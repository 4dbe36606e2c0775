//! How the end of a key range is written.
//!
//! | `range_end` | keys meant |
//! | --- | --- |
//! | empty | `key` alone |
//! | one zero byte | every key from `key` on |
//! | anything else | `key <= k < range_end` |

/// The end that stands for "no end".
pub const FROM_KEY: &[u8] = b"\0";

/// The `range_end` with which a range covers exactly the keys that start with `prefix`.
///
/// An empty prefix, or one of 0xff bytes alone, has no next sibling: the result is [`FROM_KEY`]. To list all
/// keys, the request's `key` must then be one zero byte, because an empty key is refused.
///
/// ```
/// use ketch_proto::range_end::prefix_end;
///
/// assert_eq!(prefix_end(b"ab"), b"ac");
/// assert_eq!(prefix_end(b"a\xff"), b"b");
/// assert_eq!(prefix_end(b"\xff\xff"), b"\0");
/// ```
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let keep = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix[..keep].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.extend_from_slice(FROM_KEY),
    }
    end
}

/// Whether `key` lies in the range that `start` and `range_end` describe.
///
/// ```
/// use ketch_proto::range_end::contains;
///
/// assert!(contains(b"a", b"", b"a") && !contains(b"a", b"", b"aa"));
/// assert!(contains(b"a", b"\0", b"zz"));
/// assert!(contains(b"a", b"c", b"bb") && !contains(b"a", b"c", b"c"));
/// ```
pub fn contains(start: &[u8], range_end: &[u8], key: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        FROM_KEY => key >= start,
        end => key >= start && key < end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_prefix_is_everything() {
        assert_eq!(prefix_end(b""), FROM_KEY);
    }

    #[test]
    fn trailing_ff_is_dropped() {
        assert_eq!(prefix_end(b"a\xfe\xff"), b"a\xff");
        assert_eq!(prefix_end(b"\xff"), FROM_KEY);
    }

    #[test]
    fn an_end_before_the_start_is_empty() {
        assert!(!contains(b"c", b"a", b"b"));
    }
}

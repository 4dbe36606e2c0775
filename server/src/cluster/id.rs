//! Ids of members and clusters, computed exactly as etcd computes them.
//!
//! Tools compare these ids across restarts and in configuration files, so the same URLs and token must give the
//! same ids as they do there: the first eight bytes, big-endian, of a SHA-1.

use sha1::{Digest, Sha1};

/// The id of a member: a hash over its peer URLs (sorted, joined without separator), the cluster token and, for a
/// member added to a running cluster, the second of its addition since the Unix epoch in decimal.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<i64>) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url);
    }
    hash.update(token);
    if let Some(second) = added_at {
        hash.update(second.to_string());
    }
    first_eight(hash)
}

/// The id of a cluster: a hash over the ids of its first members, sorted, eight bytes big-endian each.
#[must_use]
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest: [u8; 20] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by etcd 3.7.1 for these URLs and tokens.
    #[test]
    fn ids_that_etcd_prints() {
        let id = |urls: &[&str], token: &str| {
            member_id(&urls.iter().map(ToString::to_string).collect::<Vec<_>>(), token, None)
        };
        let default = id(&["http://localhost:2380"], "etcd-cluster");
        assert_eq!(default, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[default]), 0xcdf8_1819_4e3a_8c32);
        assert_eq!(id(&["http://127.0.0.1:23800"], "etcd-cluster"), 0x2e12_59d4_15f2_a040);
    }

    #[test]
    fn order_does_not_matter_and_time_does() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        let one = member_id(&[a.clone(), b.clone()], "t", None);
        assert_eq!(one, member_id(&[b, a.clone()], "t", None));
        assert_ne!(member_id(std::slice::from_ref(&a), "t", None), member_id(&[a], "t", Some(0)));
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
    }
}

//! The arithmetic of the corruption checks: hashes in, suspects out.

use std::collections::BTreeMap;

use ketch_proto::rpc_error::RpcError;

use crate::peer::ask::{HashError, PeerHash};

/// A hash with the points it was taken between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    /// The hash as peers are told it.
    pub hash: u32,
    /// The compaction point it counts from.
    pub compact_revision: i64,
    /// The revision it goes up to.
    pub revision: i64,
}

/// What comparing all members at a compaction point showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// All of them are equal.
    Equal,
    /// Somebody did not answer, or is elsewhere; the others are equal.
    Unsure,
    /// These are not like the majority; 0 alone if there is no majority.
    Differ(Vec<u64>),
}

/// etcd's words for a peer without an answer.
pub(super) fn unanswered(error: &HashError) -> &'static str {
    match error {
        HashError::Rpc(RpcError::FutureRev) => "cannot fetch hash from slow remote peer",
        HashError::Rpc(RpcError::Compacted) => "cannot fetch hash from remote peer; local member is behind",
        HashError::OtherCluster => "cluster ID mismatch",
        HashError::Rpc(_) | HashError::Unreachable(_) => "failed hash kv request",
    }
}

/// The first member that cannot be right, as the leader `own` sees it: its hash was `before` when it asked `peers` at that
/// revision, and is `after` once it has applied all that they had applied by then.
pub(super) fn followers(own: u64, before: Hash, after: Hash, peers: &[(u64, PeerHash)]) -> Option<u64> {
    let same_point = before.revision == after.revision && before.compact_revision == after.compact_revision;
    if same_point && before.hash != after.hash {
        tracing::warn!(?before, ?after, "found hash mismatch");
        return Some(own);
    }
    let suspect = peers.iter().find(|(id, peer)| {
        let why = if peer.revision > after.revision {
            "revision from follower must be less than or equal to leader's"
        } else if peer.compact_revision > after.compact_revision {
            "compact revision from follower must be less than or equal to leader's"
        } else if peer.compact_revision == before.compact_revision && peer.hash != before.hash {
            "same compact revision then hashes must match"
        } else {
            return false;
        };
        tracing::warn!(follower_peer_id = %format_args!("{id:x}"), leader = ?after, follower = ?peer, "{why}");
        true
    });
    suspect.map(|(id, _)| *id)
}

/// Answers that can be compared with `hash`, of what is left after a compaction. A member answers with the hash of what the
/// compaction found as long as it has not been started since; `kept` is the own one of these.
pub(super) fn comparable(
    answers: Vec<(u64, Option<PeerHash>)>,
    hash: Hash,
    kept: Option<Hash>,
) -> Vec<(u64, Option<PeerHash>)> {
    let Some(kept) = kept.filter(|kept| kept.compact_revision != hash.compact_revision) else {
        return answers;
    };
    let of_kept = |answer: PeerHash| {
        if answer.compact_revision != kept.compact_revision {
            return answer;
        }
        let found = if answer.hash == kept.hash { hash.hash } else { hash.hash ^ answer.hash ^ kept.hash };
        PeerHash { hash: found, compact_revision: hash.compact_revision, ..answer }
    };
    answers.into_iter().map(|(id, answer)| (id, answer.map(of_kept))).collect()
}

/// Compares the members' hashes at a compaction point, `own` among them; `None` is a member that did not answer.
pub(super) fn compaction(own: u64, hash: Hash, peers: &[(u64, Option<PeerHash>)]) -> Compared {
    let mut by_hash: BTreeMap<u32, Vec<u64>> = BTreeMap::from([(hash.hash, vec![own])]);
    let mut skipped = 0;
    for (id, answer) in peers {
        match answer.filter(|answer| answer.compact_revision == hash.compact_revision) {
            Some(answer) => by_hash.entry(answer.hash).or_default().push(*id),
            None => {
                skipped += 1;
                tracing::warn!(peer_id = %format_args!("{id:x}"), ?answer, "skipped a peer's hash");
            }
        }
    }
    if by_hash.len() == 1 {
        return if skipped == 0 { Compared::Equal } else { Compared::Unsure };
    }
    tracing::error!(leader = ?hash, members_by_hash = ?by_hash, "detected compaction hash mismatch");
    let quorum = peers.len().div_ceil(2) + 1;
    let majority = by_hash.iter().find(|(_, ids)| ids.len() >= quorum).map(|(hash, _)| *hash);
    Compared::Differ(match majority {
        Some(hash) => {
            by_hash.into_iter().filter(|(other, _)| *other != hash).flat_map(|(_, ids)| ids).collect()
        }
        None => vec![0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hash: u32, compact_revision: i64, revision: i64) -> Hash {
        Hash { hash, compact_revision, revision }
    }

    fn peer(hash: u32, compact_revision: i64, revision: i64) -> PeerHash {
        PeerHash { member_id: 0, revision, hash, compact_revision, hash_revision: revision }
    }

    #[test]
    fn a_follower_that_differs_is_named() {
        let own = at(7, 2, 10);
        for (found, expected) in [
            (peer(7, 2, 10), None),
            (peer(8, 2, 10), Some(2)),
            // Compacted less far: nothing to compare.
            (peer(8, 1, 10), None),
            // Ahead of the leader, in either way.
            (peer(7, 2, 11), Some(2)),
            (peer(7, 3, 10), Some(2)),
        ] {
            assert_eq!(followers(1, own, own, &[(2, found)]), expected, "{found:?}");
        }
        // What was written meanwhile does not make a follower that has it suspicious.
        assert_eq!(followers(1, own, at(9, 3, 12), &[(2, peer(7, 2, 12)), (3, peer(6, 3, 11))]), None);
        assert_eq!(followers(1, own, own, &[(2, peer(7, 2, 9)), (3, peer(5, 2, 10))]), Some(3));
    }

    #[test]
    fn a_leader_whose_own_hash_moves_in_place_suspects_itself() {
        assert_eq!(followers(1, at(7, 2, 10), at(8, 2, 10), &[(2, peer(7, 2, 10))]), Some(1));
        assert_eq!(followers(1, at(7, 2, 10), at(8, 2, 11), &[]), None);
    }

    #[test]
    fn hashes_of_what_a_compaction_found_are_compared_with_the_own_one() {
        let (own, kept) = (at(7, 5, 5), at(3, -1, 5));
        let right = |id| (id, Some(peer(3, -1, 5)));
        // One that was started since has the other hash.
        for (third, expected) in [
            (right(3), Compared::Equal),
            ((3, Some(peer(7, 5, 9))), Compared::Equal),
            ((3, Some(peer(4, -1, 5))), Compared::Differ(vec![3])),
            ((3, Some(peer(7, -1, 5))), Compared::Differ(vec![3])),
            ((3, Some(peer(8, 5, 9))), Compared::Differ(vec![3])),
            ((3, Some(peer(3, 2, 5))), Compared::Unsure),
        ] {
            let answers = comparable(vec![right(2), third], own, Some(kept));
            assert_eq!(compaction(1, own, &answers), expected, "{third:?}");
        }
        // Two that differ from it in the same way are the majority.
        let answers = [2, 3].map(|id| (id, Some(peer(4, -1, 5)))).to_vec();
        assert_eq!(compaction(1, own, &comparable(answers, own, Some(kept))), Compared::Differ(vec![1]));
        let alone = vec![right(2), right(3)];
        assert_eq!(compaction(1, own, &comparable(alone, own, None)), Compared::Unsure);
    }

    #[test]
    fn the_minority_is_wrong_and_without_a_majority_everybody() {
        let own = at(7, 5, 5);
        let (like, unlike, other) = (Some(peer(7, 5, 9)), Some(peer(8, 5, 9)), Some(peer(9, 5, 9)));
        for (answers, expected) in [
            (vec![(2, like), (3, like)], Compared::Equal),
            (vec![(2, like), (3, None)], Compared::Unsure),
            (vec![(2, like), (3, Some(peer(8, 4, 9)))], Compared::Unsure),
            (vec![(2, like), (3, unlike)], Compared::Differ(vec![3])),
            (vec![(2, unlike), (3, unlike)], Compared::Differ(vec![1])),
            (vec![(2, unlike), (3, other)], Compared::Differ(vec![0])),
            (vec![(2, unlike)], Compared::Differ(vec![0])),
            (vec![(2, like), (3, like), (4, unlike), (5, other)], Compared::Differ(vec![4, 5])),
            // A member that does not answer is no part of a majority.
            (vec![(2, unlike), (3, None)], Compared::Differ(vec![0])),
        ] {
            assert_eq!(compaction(1, own, &answers), expected, "{answers:?}");
        }
    }
}

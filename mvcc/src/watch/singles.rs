//! Which watchers want a single key. Keys are found by a hash, which lies in the map itself: no key but the right one is looked at.
//!
//! Whoever makes keys on purpose that have one hash gains nothing: all but the first of them are kept in order of keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::range_set::take_out;
use crate::hash;

/// Keys, each with the numbers of those who want it.
#[derive(Debug, Default)]
pub(super) struct Singles {
    by_hash: BTreeMap<u64, (Arc<[u8]>, Members)>,
    /// Keys whose hash another one had when they came.
    others: BTreeMap<Arc<[u8]>, Members>,
}

/// Most keys have one member.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "half the size where there is one member, which is nearly everywhere"
)]
enum Members {
    One(u32),
    Many(Box<Vec<u32>>),
}

#[cfg(not(test))]
fn hash_of(key: &[u8]) -> u64 {
    hash::bytes(0, key)
}

/// So few that keys meet.
#[cfg(test)]
fn hash_of(key: &[u8]) -> u64 {
    hash::bytes(0, key) % 16
}

impl Singles {
    pub(super) fn insert(&mut self, key: &Arc<[u8]>, member: u32) {
        if let Some(members) = self.get_mut(key) {
            return members.push(member);
        }
        let one = Members::One(member);
        let slot = self.by_hash.entry(hash_of(key));
        match slot {
            std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert((Arc::clone(key), one))),
            std::collections::btree_map::Entry::Occupied(_) => drop(self.others.insert(Arc::clone(key), one)),
        }
    }

    /// Takes a member out; false when it was not there.
    pub(super) fn remove(&mut self, key: &[u8], member: u32) -> bool {
        let Some(members) = self.get_mut(key) else { return false };
        let (removed, empty) = members.take_out(member);
        if empty && self.others.remove(key).is_none() {
            self.by_hash.remove(&hash_of(key));
        }
        removed
    }

    /// Calls `found` for every member of `key`.
    pub(super) fn find(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        let members = match self.by_hash.get(&hash_of(key)) {
            Some((first, members)) if **first == *key => Some(members),
            _ if self.others.is_empty() => None,
            _ => self.others.get(key),
        };
        match members {
            Some(Members::One(member)) => found(*member),
            Some(Members::Many(members)) => members.iter().for_each(|&member| found(member)),
            None => {}
        }
    }

    fn get_mut(&mut self, key: &[u8]) -> Option<&mut Members> {
        match self.by_hash.get_mut(&hash_of(key)) {
            Some((first, members)) if **first == *key => Some(members),
            _ if self.others.is_empty() => None,
            _ => self.others.get_mut(key),
        }
    }
}

impl Members {
    fn push(&mut self, member: u32) {
        match self {
            Members::Many(members) => members.push(member),
            Members::One(first) => *self = Members::Many(Box::new(vec![*first, member])),
        }
    }

    /// Takes a member out; whether it was there, and whether none is left.
    fn take_out(&mut self, member: u32) -> (bool, bool) {
        match self {
            Members::One(one) => (*one == member, *one == member),
            Members::Many(members) => {
                let removed = take_out(members, member);
                (removed, members.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_hash_are_kept_apart() {
        let key = |i: u32| -> Arc<[u8]> { Arc::from(i.to_be_bytes()) };
        let found = |singles: &Singles, i: u32| {
            let mut found = Vec::new();
            singles.find(&key(i), &mut |member| found.push(member));
            found
        };
        let mut singles = Singles::default();
        for i in 0..200 {
            singles.insert(&key(i), i);
        }
        assert!(singles.by_hash.len() <= 16 && singles.others.len() >= 184);
        // Those that came first leave; a second member of another key does not take their place.
        let first: Vec<u32> = (0..200).filter(|&i| !singles.others.contains_key(&key(i))).collect();
        for &i in &first {
            assert!(singles.remove(&key(i), i) && !singles.remove(&key(i), i));
        }
        for i in (0..200).filter(|i| !first.contains(i)) {
            singles.insert(&key(i), 1000 + i);
            assert_eq!(found(&singles, i), [i, 1000 + i]);
            assert!(singles.remove(&key(i), i) && !singles.remove(&key(i), i));
            assert_eq!(found(&singles, i), [1000 + i]);
        }
        for &i in &first {
            assert!(found(&singles, i).is_empty());
            singles.insert(&key(i), i);
            assert_eq!(found(&singles, i), [i]);
        }
        for i in 0..200 {
            assert_eq!(singles.remove(&key(i), 1000 + i), !first.contains(&i));
            singles.remove(&key(i), i);
        }
        assert!(singles.by_hash.is_empty() && singles.others.is_empty());
    }
}

//! The tree against `BTreeMap`; the cell that roots are published in under many readers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ketch_wal::Position;

use super::marks::Mark;
use super::publish::Cell;
use super::tree::Nodes;
use super::{Builder, Entry, Frozen, Head, Tree};
use crate::revision::Revision;
use crate::types::KeyRange;

fn head(main: i64, live: bool) -> Head {
    Head {
        revision: Revision::new(main, 0),
        create_revision: i64::from(live) * main,
        version: i64::from(live),
        ..Head::default()
    }
}

fn plainly<'a>((key, entry): (&'a [u8], Entry<'a>)) -> (&'a [u8], Head) {
    (key, entry.head)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn key(&mut self, space: u64) -> Vec<u8> {
        let n = self.below(space);
        match n % 5 {
            0 => format!("{n}").into_bytes(),
            1 => vec![(n % 251) as u8; n as usize % 300],
            2 if n % 50 == 2 => vec![n as u8; 3000 + 9 * n as usize],
            _ => n.to_be_bytes().to_vec(),
        }
    }
}

fn assert_same(tree: &Nodes, plain: &BTreeMap<Vec<u8>, Head>, random: &mut Random) {
    assert!(tree.iter_from(b"").map(plainly).eq(plain.iter().map(|(k, h)| (&k[..], *h))));
    assert!(tree.iter_back_from(None).map(plainly).eq(plain.iter().rev().map(|(k, h)| (&k[..], *h))));
    for _ in 0..20 {
        let (start, end) = (random.key(900), random.key(900));
        assert_eq!(tree.get(&start).map(|entry| entry.head), plain.get(&start).copied());
        let range = KeyRange::Span { start: start.clone().into(), end: Some(Bytes::from(end.clone())) };
        let inside: Vec<_> = plain.iter().filter(|(k, _)| range.contains(k)).collect();
        let count = tree.count_in(&range);
        assert_eq!(count.entries, inside.len() as u64);
        assert_eq!(count.live, inside.iter().filter(|(_, h)| h.is_live()).count() as u64);
        let from = plain.range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded));
        assert!(tree.iter_from(&start).map(plainly).eq(from.map(|(k, h)| (&k[..], *h))));
        let until = plain.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&end[..])));
        assert!(tree.iter_back_from(Some(&end)).map(plainly).eq(until.rev().map(|(k, h)| (&k[..], *h))));
    }
}

#[test]
fn random_changes_and_frozen_clones() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
        let mut frozen: Vec<(Frozen, BTreeMap<Vec<u8>, Head>)> = Vec::new();
        for step in 0..4000i64 {
            let key = random.key(900);
            // Phases of growth and of shrinking, so that splits and merges both happen.
            let removing = if (step / 1000) % 2 == 0 { 2 } else { 8 };
            if random.below(10) < removing {
                assert_eq!(tree.remove(&key), plain.remove(&key).is_some());
            } else {
                let new = head(step + 1, random.below(4) > 0);
                tree.upsert(&key, Position::START, |old| {
                    assert_eq!(old.map(|entry| entry.head), plain.get(&key).copied());
                    (new, None)
                });
                plain.insert(key, new);
            }
            if step % 400 == 0 {
                frozen.push((tree.freeze(), plain.clone()));
                if frozen.len() == 5 {
                    frozen.remove(random.below(5) as usize);
                }
                tree.settle(1000);
            }
        }
        frozen.push((tree.freeze(), plain));
        drop(tree);
        for (tree, plain) in &frozen {
            assert_same(tree, plain, &mut random);
        }
    }
}

#[test]
fn built_trees_are_like_grown_ones_and_can_be_changed() {
    for size in [0u32, 1, 27, 28, 29, 500, 5000] {
        let mut builder = Builder::default();
        let mut plain = BTreeMap::new();
        for i in 0..size {
            builder.push(&i.to_be_bytes(), head(i64::from(i) + 1, i % 3 > 0), None);
            plain.insert(i.to_be_bytes().to_vec(), head(i64::from(i) + 1, i % 3 > 0));
        }
        let mut tree = builder.finish();
        let mut random = Random(u64::from(size));
        assert_same(&tree, &plain, &mut random);
        for step in 0..500 {
            let key = random.key(900);
            tree.upsert(&key, Position::START, |_| (head(step + 1, true), None));
            plain.insert(key, head(step + 1, true));
        }
        assert_same(&tree, &plain, &mut random);
    }
}

/// Memory of frozen trees is used again once nobody reads them, and all of it is given back in the end.
#[test]
fn memory_is_used_again() {
    let mut random = Random(5);
    let mut tree = Tree::default();
    let mut held: Vec<Frozen> = Vec::new();
    let mut most = 0;
    for step in 0..20_000i64 {
        let key = (random.below(3000) as u32).to_be_bytes();
        let mark = (random.below(5) == 0).then(|| Mark::push(None, Revision::new(step, 0)));
        tree.upsert(&key, Position::START, |_| (head(step + 1, true), mark));
        if step % 10 == 0 {
            held.push(tree.freeze());
            if held.len() > 3 {
                held.swap_remove(random.below(3) as usize);
            }
            tree.settle(10_000);
        }
        let (total, free) = tree.memory.bytes();
        if step < 10_000 {
            most = most.max(total);
        } else {
            assert!(total <= most, "{total} bytes, {free} of them free, after {most}");
        }
    }
    held.clear();
    tree.settle(100_000);
    let (total, free) = tree.memory.bytes();
    assert!(free > 0 && total > free);
}

/// A frozen tree is read while the writer uses the memory of others again and again.
#[test]
fn readers_read_on_while_memory_is_used_again() {
    let mut tree = Tree::default();
    let cell = Cell::new(Arc::new((0, tree.freeze())));
    let (keys, rounds) = (2000u32, 400);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let root = cell.get();
                    let (round, frozen) = (root.0, &root.1);
                    let mut found = 0;
                    for (key, entry) in frozen.iter_from(b"") {
                        let i = u32::from_be_bytes(key.try_into().unwrap());
                        assert_eq!(i, found);
                        // Key i is written in the first round, and in every one that i % 7 + 1 divides.
                        let last = (round - round % i64::from(i % 7 + 1)).max(1);
                        assert_eq!(entry.revision.main, last);
                        assert!(entry.marks.is_none_or(|marks| marks.oldest_above(0).unwrap().main <= last));
                        found += 1;
                    }
                    if round > 0 {
                        assert_eq!((found, frozen.count().live), (keys, u64::from(keys)));
                    }
                    if round == rounds {
                        return;
                    }
                }
            });
        }
        for round in 1..=rounds {
            for i in (0..keys).filter(|i| round == 1 || round % i64::from(i % 7 + 1) == 0) {
                let mark = (i % 50 == 0).then(|| Mark::push(None, Revision::new(round, 0)));
                tree.upsert(&i.to_be_bytes(), Position::START, |_| (head(round, true), mark));
            }
            drop(cell.set(Arc::new((round, tree.freeze()))));
            cell.tidy();
            tree.settle(10_000);
        }
    });
}

/// Marks stay with their keys through insertions, splits, merges and removals around them.
#[test]
fn marks_stay_with_their_keys() {
    let mut random = Random(3);
    let (mut tree, mut plain) = (Tree::default(), BTreeMap::new());
    for step in 1..6000i64 {
        let key = random.key(700);
        if random.below(10) < if step % 2000 < 1200 { 2 } else { 8 } {
            tree.remove(&key);
            plain.remove(&key);
        } else {
            let marked = random.below(3) == 0;
            let mark = marked.then(|| Mark::push(None, Revision::new(step, 0)));
            tree.upsert(&key, Position::START, |_| (head(step, true), mark));
            let known = plain.get(&key).copied().flatten();
            plain.insert(key, if marked { Some(step) } else { known });
        }
        if step % 500 == 0 {
            let found = tree
                .iter_from(b"")
                .map(|(key, entry)| (key.to_vec(), entry.marks.map(|marks| marks.above(0)[0].main)));
            assert!(found.eq(plain.iter().map(|(key, marked)| (key.clone(), *marked))));
        }
    }
}

#[test]
fn readers_see_only_growing_values() {
    let cell = Cell::new(Arc::new(0u64));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 50_000 {
                    let now = *cell.get();
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
            });
        }
        for value in 1..=50_000 {
            cell.set(Arc::new(value));
        }
    });
}

#[test]
fn nothing_old_is_kept_when_nobody_reads() {
    let first = Arc::new(1);
    let cell = Cell::new(Arc::clone(&first));
    drop(cell.set(Arc::new(2)));
    assert_eq!(Arc::strong_count(&first), 1);
    // A reader is copying while its slot is replaced.
    let second = cell.get();
    let busy = cell.slots[cell.current.load(Ordering::Relaxed)].read().unwrap();
    cell.set(Arc::new(3));
    drop(busy);
    assert_eq!(Arc::strong_count(&second), 2);
    cell.tidy();
    assert_eq!((Arc::strong_count(&second), *cell.get()), (1, 3));
}

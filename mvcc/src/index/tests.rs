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
use super::{Builder, Entry, Frozen, Head, Marks, Tree};
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

/// Places, marks and counts stay with their keys, however long these are, through everything that moves entries between leaves; in
/// the tree and in everything frozen from it.
#[test]
fn places_stay_with_their_keys_of_all_lengths() {
    type Plain = BTreeMap<Vec<u8>, (Head, Position, Option<i64>)>;
    fn assert_all(tree: &Nodes, plain: &Plain) {
        assert_eq!(tree.count().entries, plain.len() as u64);
        assert_eq!(tree.count().live, plain.values().filter(|(head, ..)| head.is_live()).count() as u64);
        let marked = |entry: &Entry<'_>| entry.marks.map(|marks| marks.above(0)[0].main);
        let found = tree
            .iter_from(b"")
            .map(|(key, entry)| (key, (entry.head, entry.place().unwrap_or_default(), marked(&entry))));
        assert!(found.eq(plain.iter().map(|(key, known)| (&key[..], *known))));
        let (all, mut runs) = (KeyRange::all(), Vec::new());
        let mut iter = tree.iter(&all);
        while let Some(run) = iter.next_run() {
            runs.extend((0..run.len()).filter_map(|i| run.live_place(i)).map(Option::unwrap_or_default));
        }
        assert!(plain.values().filter(|(head, ..)| head.is_live()).map(|known| known.1).eq(runs));
    }
    for seed in 0..8 {
        let mut random = Random(seed);
        let key = |random: &mut Random| {
            let n = random.below(1500) as u32;
            let mut key = format!("/{}/", ["a", "registry/pods", ""][n as usize % 3]).into_bytes();
            match n % 40 {
                // Longer than pieces of blocks, than what a leaf should have, and than 16 bits can say.
                0 => key.resize(key.len() + 66_000, b'x'),
                1 => key.resize(key.len() + 9_000, b'x'),
                2 => key.resize(key.len() + 4_000, b'x'),
                3 => key.resize(key.len() + n as usize % 50, 0),
                _ => {}
            }
            if seed % 2 == 0 {
                key.extend(n.to_be_bytes());
            } else {
                key.extend(n.to_string().into_bytes());
            }
            key
        };
        let (mut tree, mut plain) = (Tree::default(), Plain::new());
        let mut frozen: Vec<(Frozen, Plain)> = Vec::new();
        for step in 1..9000i64 {
            let key = key(&mut random);
            if random.below(10) < if step % 4500 < 3000 { 1 } else { 8 } {
                assert_eq!(tree.remove(&key), plain.remove(&key).is_some());
            } else {
                let (new, place) = (head(step, random.below(4) > 0), Position::from_u64(8 * step as u64));
                let mark = (random.below(9) == 0).then_some(step);
                tree.upsert(&key, place, |_| {
                    (new, mark.map(|step| Mark::push(None, Revision::new(step, 0))))
                });
                let before = plain.get(&key).and_then(|known| known.2);
                plain.insert(key, (new, place, mark.or(before)));
            }
            if step % 150 == 0 {
                frozen.push((tree.freeze(), plain.clone()));
                if frozen.len() > 4 {
                    // Those that were frozen are as they were, after much was changed.
                    let (tree, plain) = frozen.swap_remove(random.below(4) as usize);
                    assert_all(&tree, &plain);
                }
                tree.settle(random.below(3000) as usize);
            }
            if step % 1000 == 0 {
                assert_all(&tree, &plain);
            }
        }
        drop(tree);
        frozen.iter().for_each(|(tree, plain)| assert_all(tree, plain));
    }
}

/// Marks are the one thing in the tree's memory that counts holders: all are let go of, whoever goes last.
#[test]
fn marks_are_let_go_of_with_their_tree() {
    let marks: Vec<Marks> = (0..400).map(|i| Mark::push(None, Revision::new(i + 1, 0))).collect();
    let holders = || marks.iter().map(|mark| Arc::strong_count(mark) - 1).sum::<usize>();
    let keys = || (0u32..).map(u32::to_be_bytes);
    // What it was built from was damaged.
    let mut builder = Builder::default();
    for (key, mark) in keys().zip(&marks) {
        builder.push(&key, head(1, true), Some(Arc::clone(mark)));
    }
    drop(builder);
    assert_eq!(holders(), 0);
    for (seed, tree_last) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut builder = Builder::default();
        for (key, mark) in keys().zip(&marks[..200]) {
            builder.push(&key, head(1, true), Some(Arc::clone(mark)));
        }
        let (mut tree, mut random, mut frozen) = (builder.finish(), Random(seed), Vec::new());
        for step in 0..2000 {
            let key = (random.below(600) as u32).to_be_bytes();
            if random.below(3) == 0 {
                tree.remove(&key);
            } else {
                let mark = Arc::clone(&marks[random.below(400) as usize]);
                tree.upsert(&key, Position::START, |_| (head(step + 1, true), Some(mark)));
            }
            if step % 50 == 0 {
                frozen.push(tree.freeze());
                if frozen.len() > 4 {
                    frozen.swap_remove(random.below(4) as usize);
                }
                tree.settle(random.below(200) as usize);
            }
        }
        assert!(holders() > 100);
        let read = move || frozen.iter().map(|tree| tree.iter_from(b"").count()).sum::<usize>();
        if tree_last {
            assert!(std::thread::spawn(read).join().unwrap() > 0);
            drop(tree);
        } else {
            drop(tree);
            assert!(std::thread::spawn(read).join().unwrap() > 0);
        }
        assert_eq!(holders(), 0);
    }
}

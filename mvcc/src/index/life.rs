//! When a piece of the index may be used again: the generations in which it could be seen.
//!
//! ```text
//! generation    1       2       3       4 = being written
//! frozen        root 1  –       root 3
//! piece A       born ─────────────────────────► part of the present tree
//! piece B               born ─ died              root 3 does not have it, root 2 is gone: free at once
//! piece C       born ────────── died             root 1 may read it: it waits in root 1's list
//! ```
//!
//! Freezing a tree ends a generation; a piece born in an earlier one is never changed, only replaced. A piece that was replaced
//! waits with the newest frozen generation that has it. When nobody reads that one any more, it moves on to the next older
//! one that has it, or is free. So nobody counts references, and a copy of a node does not touch its children.

use std::mem;

/// Something to be given back, and the generation it was born in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead<T> {
    pub(super) what: T,
    pub(super) born: u64,
}

#[derive(Debug)]
struct Frozen<T> {
    generation: u64,
    /// What died since, and was part of no later frozen tree.
    dead: Vec<Dead<T>>,
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Life<T> {
    /// The generation that is being written.
    now: u64,
    /// Those that may be read, oldest first.
    frozen: Vec<Frozen<T>>,
    /// The dead of generations that are gone, not looked at yet.
    loose: Vec<Frozen<T>>,
    /// Lists that are empty, for their memory.
    spare: Vec<Vec<Dead<T>>>,
}

impl<T> Default for Life<T> {
    fn default() -> Life<T> {
        Life { now: 1, frozen: Vec::new(), loose: Vec::new(), spare: Vec::new() }
    }
}

impl<T> Life<T> {
    /// The generation that is being written: what was born in it is seen by nobody else.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Ends a generation; returns its number.
    pub(super) fn freeze(&mut self) -> u64 {
        let generation = self.now;
        self.now += 1;
        let dead = self.spare.pop().unwrap_or_default();
        self.frozen.push(Frozen { generation, dead });
        generation
    }

    /// What is no longer part of the tree being written; handed back when nobody can see it.
    #[must_use]
    pub(super) fn bury(&mut self, dead: Dead<T>) -> Option<T> {
        match self.frozen.last_mut() {
            Some(last) if dead.born <= last.generation => {
                last.dead.push(dead);
                None
            }
            _ => Some(dead.what),
        }
    }

    /// Nobody reads a frozen generation any more.
    pub(super) fn release(&mut self, generation: u64) {
        let at = self.frozen.binary_search_by_key(&generation, |frozen| frozen.generation);
        if let Ok(at) = at {
            self.loose.push(self.frozen.remove(at));
        }
    }

    /// Looks at up to `budget` of what generations left that are gone; `free` takes what nobody can see. Returns whether there is more.
    /// What was left last comes first: caches may still have it.
    pub(super) fn settle(&mut self, mut budget: usize, mut free: impl FnMut(T)) -> bool {
        while let Some(last) = self.loose.last_mut() {
            let older = self.frozen.partition_point(|frozen| frozen.generation < last.generation);
            let mut older = self.frozen[..older].last_mut();
            while budget > 0
                && let Some(dead) = last.dead.pop()
            {
                budget -= 1;
                match &mut older {
                    Some(older) if dead.born <= older.generation => older.dead.push(dead),
                    _ => free(dead.what),
                }
            }
            if !last.dead.is_empty() {
                return true;
            }
            let empty = mem::take(&mut last.dead);
            self.loose.pop();
            // A few lists of usual size are kept.
            if self.spare.len() < 4 && empty.capacity() <= 4096 {
                self.spare.push(empty);
            }
        }
        false
    }

    /// Everything that waits.
    pub(super) fn into_dead(self) -> impl Iterator<Item = T> {
        let lists = self.frozen.into_iter().chain(self.loose);
        lists.flat_map(|frozen| frozen.dead).map(|dead| dead.what)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Against the plain truth: each frozen generation is the set of what it has.
    #[test]
    fn nothing_is_freed_that_somebody_sees_and_nothing_is_kept_that_nobody_does() {
        for seed in 0..20u64 {
            let mut random = seed;
            let mut below = |n: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % n
            };
            let mut life = Life::default();
            let (mut present, mut dead): (BTreeMap<u64, u64>, BTreeSet<u64>) = Default::default();
            let mut frozen: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            for next in 0..800 {
                let seen = |what: &u64, frozen: &BTreeMap<u64, BTreeSet<u64>>| {
                    frozen.values().any(|has| has.contains(what))
                };
                match below(8) {
                    0..3 => drop(present.insert(next, life.now())),
                    3..6 => {
                        let Some(&what) = present.keys().nth(below(present.len() as u64 + 1) as usize) else {
                            continue;
                        };
                        let born = present.remove(&what).unwrap();
                        match life.bury(Dead { what, born }) {
                            Some(what) => assert!(!seen(&what, &frozen)),
                            None => assert!(dead.insert(what)),
                        }
                    }
                    6 => drop(frozen.insert(life.freeze(), present.keys().copied().collect())),
                    _ => {
                        let at = below(frozen.len() as u64 + 1) as usize;
                        let Some(&generation) = frozen.keys().nth(at) else { continue };
                        frozen.remove(&generation);
                        life.release(generation);
                    }
                }
                let more = life.settle(below(20) as usize, |what| {
                    assert!(dead.remove(&what), "{what} is freed once, and after it died");
                    assert!(!seen(&what, &frozen), "{what} is freed although somebody sees it");
                });
                if !more {
                    assert!(dead.iter().all(|what| seen(what, &frozen)), "something is kept for nobody");
                }
            }
        }
    }
}

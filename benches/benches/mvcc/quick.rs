//! The comparison's figures for ketch-mvcc alone, in half a minute: for measuring two builds in turns.

use std::hint::black_box;
use std::time::Instant;

use super::engine::{BATCH, Engine, Ketch, load};
use super::{Random, batch, is_test};

/// Nanoseconds of each of many rounds, of `count` operations each; the median round's.
fn median(rounds: usize, count: u64, mut round: impl FnMut()) -> f64 {
    let mut took: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e9 / count as f64
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[rounds / 2]
}

/// One line: puts (applied; with all background work), gets, pages in either order, in nanoseconds.
pub(crate) fn report(keys: u64) {
    let rounds = if is_test() { 3 } else { 41 };
    let (gets, batches, pages) = if is_test() { (10, 2, 2) } else { (10_000, 150, 100) };
    let mut random = Random(1);
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, false);
    let mut out = Vec::with_capacity(1 << 18);
    let mut page = |ketch: &Ketch, random: &mut Random| {
        median(rounds, pages, || {
            for _ in 0..pages {
                out.clear();
                black_box(ketch.page(random.below(keys - 500), 500, &mut out));
            }
        })
    };
    let jumping = page(&ketch, &mut random);
    let get = median(rounds, gets, || {
        for _ in 0..gets {
            black_box(ketch.get(random.below(keys)));
        }
    });
    let mut applied = Vec::new();
    let whole = median(rounds, batches * BATCH, || {
        let mut took = 0.0;
        for _ in 0..batches {
            let puts = batch(&mut random, keys);
            let start = Instant::now();
            ketch.put(puts);
            took += start.elapsed().as_secs_f64();
            ketch.beside();
        }
        applied.push(took * 1e9 / (batches * BATCH) as f64);
    });
    applied.sort_by(f64::total_cmp);
    let applied = applied[applied.len() / 2];
    drop(ketch);
    let mut ketch = Ketch::open();
    load(&mut ketch, keys, true);
    let ordered = page(&ketch, &mut random);
    println!(
        "quick: put {applied:.0} ns, with background {whole:.0} ns, get {get:.0} ns, page of 500 in key order {ordered:.0} ns, in random order {jumping:.0} ns"
    );
}

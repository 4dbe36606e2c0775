//! A second opinion: is the history of answers linearizable, whatever revisions they name?
//!
//! Wing and Gong's search with Lowe's memory: at each step one of the operations that may come first is tried; a set of
//! operations done together with the state that they lead to is never tried twice. Operations on keys that no transaction
//! joins are histories of their own. An operation whose outcome is unknown may take effect at any time after it was asked, or
//! never. Histories that need too long a search are given up and counted.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::ask::{Ask, Seen, Told};

/// The longest history looked at: longer ones are cut, at a moment when nothing is in flight if there is one.
const OPERATIONS_MAX: usize = 120;
/// So many steps are tried at most.
const STEPS_MAX: usize = 40_000;

/// One operation of a client.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The client.
    pub(super) client: usize,
    /// What it asked.
    pub(super) ask: Ask,
    /// When.
    pub(super) asked_at: u64,
    /// When it was told what; `None` if it gave up.
    pub(super) answered: Option<(u64, Told)>,
}

/// What was found out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Histories that are linearizable.
    pub(super) decided: u64,
    /// Operations in them.
    pub(super) operations: u64,
    /// Histories given up.
    pub(super) undecided: u64,
}

/// A key's value and version; absent if it is not there.
type State = BTreeMap<Bytes, (Bytes, i64)>;

/// Checks all histories in `records`.
///
/// # Errors
/// A history that is not linearizable, by its keys.
pub(super) fn check(records: &[Record]) -> Result<Verdict, String> {
    let mut verdict = Verdict::default();
    for (keys, history) in partition(records) {
        let history = cut(history);
        let found = Search { history: &history, seen: HashSet::new(), steps: 0 }.run();
        match found {
            Some(true) => {
                verdict.decided += 1;
                verdict.operations += history.len() as u64;
            }
            Some(false) => {
                return Err(format!("the answers about {keys:?} are not linearizable: {history:#?}"));
            }
            None => verdict.undecided += 1,
        }
    }
    Ok(verdict)
}

/// The keys that an operation is about; none for one that this checker does not look at.
fn keys(ask: &Ask) -> Vec<Bytes> {
    match ask {
        Ask::Put(key, _) | Ask::Delete(key) => vec![key.clone()],
        Ask::Get { key, serializable: false, revision: 0 } if !key.is_empty() => vec![key.clone()],
        Ask::Swap(swap) => vec![swap.guard.clone(), swap.puts[1].0.clone(), swap.third.0.clone()],
        _ => Vec::new(),
    }
}

/// Histories that share no key.
fn partition(records: &[Record]) -> Vec<(Vec<Bytes>, Vec<&Record>)> {
    let mut groups: Vec<(Vec<Bytes>, Vec<&Record>)> = Vec::new();
    for record in records {
        let mut keys = keys(&record.ask);
        if keys.is_empty() || matches!(record.answered, Some((_, Told::NotTaken | Told::Refused(_)))) {
            continue;
        }
        let mut members = vec![record];
        while let Some(at) = groups.iter().position(|(of, _)| of.iter().any(|key| keys.contains(key))) {
            let (of, joined) = groups.swap_remove(at);
            keys.extend(of);
            members.extend(joined);
        }
        keys.sort();
        keys.dedup();
        groups.push((keys, members));
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, members) in &mut groups {
        members.sort_by_key(|record| (record.asked_at, record.client));
    }
    groups
}

/// The beginning of a history: what was asked later cannot change whether it is linearizable, except that the last ones
/// may have seen what was cut; so those in flight at the cut become unknown.
fn cut(mut history: Vec<&Record>) -> Vec<Record> {
    let Some(end) = history.get(OPERATIONS_MAX).map(|record| record.asked_at) else {
        return history.into_iter().cloned().collect();
    };
    history.retain(|record| record.asked_at < end);
    let open = |record: &Record| record.answered.as_ref().is_none_or(|(at, _)| *at >= end);
    let cut = history.into_iter().cloned().map(|record| {
        let answered = if open(&record) { None } else { record.answered };
        Record { answered, ..record }
    });
    cut.collect()
}

struct Search<'a> {
    history: &'a [Record],
    seen: HashSet<(Vec<u64>, State)>,
    steps: usize,
}

impl Search<'_> {
    /// `None` when it takes too long.
    fn run(&mut self) -> Option<bool> {
        let mut done = vec![0_u64; self.history.len().div_ceil(64)];
        self.step(&mut done, &State::new())
    }

    fn step(&mut self, done: &mut Vec<u64>, state: &State) -> Option<bool> {
        let is_done = |done: &[u64], at: usize| done[at / 64] >> (at % 64) & 1 == 1;
        let left = |at: &usize| !is_done(done, *at);
        let answered = |at: usize| self.history[at].answered.as_ref().map(|(when, _)| *when);
        // Whoever was answered first must not come after one that was asked later.
        let first_answer = (0..self.history.len()).filter(left).filter_map(answered).min();
        let Some(first_answer) = first_answer else { return Some(true) };
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return None;
        }
        if !self.seen.insert((done.clone(), state.clone())) {
            return Some(false);
        }
        let candidates: Vec<usize> = (0..self.history.len())
            .filter(|at| !is_done(done, *at) && self.history[*at].asked_at <= first_answer)
            .collect();
        let mut undecided = false;
        for at in candidates {
            let Some(next) = apply(&self.history[at], state) else { continue };
            done[at / 64] |= 1 << (at % 64);
            let verdict = self.step(done, &next);
            done[at / 64] &= !(1 << (at % 64));
            match verdict {
                Some(true) => return Some(true),
                Some(false) => {}
                None => undecided = true,
            }
            if undecided {
                return None;
            }
        }
        Some(false)
    }
}

/// The state after the operation; `None` if it cannot have been answered like this.
fn apply(record: &Record, state: &State) -> Option<State> {
    let seen = match &record.answered {
        None => None,
        Some((_, Told::Done(_, seen))) => Some(seen),
        Some(_) => return None,
    };
    let mut next = state.clone();
    match &record.ask {
        Ask::Put(key, value) => set(&mut next, key, value),
        Ask::Delete(key) => {
            let deleted = i64::from(next.remove(key).is_some());
            if !matches!(seen, None | Some(Seen::Nothing)) && seen != Some(&Seen::Deleted(deleted)) {
                return None;
            }
        }
        Ask::Get { key, .. } => {
            let found = next.get(key).map(|(value, version)| (value, *version));
            if let Some(Seen::Pairs(pairs)) = seen
                && pairs.first().map(|pair| (&pair.value, pair.version)) != found
            {
                return None;
            }
        }
        Ask::Swap(swap) => {
            let held = next.get(&swap.guard).map_or(0, |(_, version)| *version) < swap.below;
            if let Some(Seen::Branch(said, reads)) = seen {
                let before = next.get(&swap.guard).map(|(value, _)| value);
                let read = reads.first().and_then(|pairs| pairs.first()).map(|pair| &pair.value);
                if *said != held || read != before {
                    return None;
                }
            }
            if held {
                swap.puts.iter().for_each(|(key, value)| set(&mut next, key, value));
                next.remove(&swap.third.0);
            } else {
                set(&mut next, &swap.third.0, &swap.third.1);
            }
        }
        Ask::Compact(_) | Ask::Alarm(_) | Ask::Change(_) => return None,
    }
    Some(next)
}

fn set(state: &mut State, key: &Bytes, value: &Bytes) {
    let version = state.get(key).map_or(1, |(_, version)| version + 1);
    state.insert(key.clone(), (value.clone(), version));
}

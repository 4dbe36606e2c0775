//! Is the history linearizable? Every answer names a revision, and revisions are the order: what is checked is that each answer
//! is what the changes up to its revision make it, and that no revision is older than one that was known before the request.
//!
//! * Every change was asked for, in whole, once, and every acknowledged one is there at its revision.
//! * Reads, previous values, and the conditions of transactions are those of their revision, serializable ones too.
//! * In real time: whatever was asked after an answer has at least its revision, and a later one if it writes. Serializable
//!   reads may be older, but never show what was asked after them.

use std::cmp::Reverse;
use std::collections::HashMap;

use bytes::Bytes;
use ketch_proto::mvccpb::event::EventType;
use ketch_proto::mvccpb::{Event, KeyValue};

use crate::ops::{Ask, END, FROM, Op, Seen};
use crate::truth::Truth;

/// Checks what was asked since the last time; gives back what may still happen.
///
/// # Errors
/// What is wrong, with the requests it is about.
pub(crate) fn check(ops: Vec<Op>, truth: &Truth) -> Result<Vec<Op>, String> {
    let took = changes(&ops, truth)?;
    for op in &ops {
        contents(op, truth).map_err(|why| format!("{why}: {op:?}"))?;
    }
    real_time(&ops, &took)?;
    let mut open = Vec::new();
    for (at, op) in ops.into_iter().enumerate() {
        if op.told.is_none() && op.ask.writes() && !took.contains_key(&at) {
            open.push(op);
        }
    }
    Ok(open)
}

/// A key, and its new value unless it was deleted.
type Change = (Bytes, Option<Bytes>);

fn change(event: &Event) -> Change {
    let kv = event.kv.clone().unwrap_or_default();
    let value = (event.r#type() == EventType::Put).then_some(kv.value);
    (kv.key, value)
}

/// What a request changes where its condition holds, or does not.
fn effect(ask: &Ask, held: bool) -> Vec<Change> {
    let put = |(key, value): &(Bytes, Bytes)| (key.clone(), Some(value.clone()));
    let mut changes = match ask {
        Ask::Put { key, value } => vec![(key.clone(), Some(value.clone()))],
        Ask::Delete { key } => vec![(key.clone(), None)],
        Ask::Swap { puts, .. } if held => puts.iter().map(put).collect(),
        Ask::Swap { third, .. } => vec![put(third)],
        _ => Vec::new(),
    };
    changes.sort();
    changes
}

/// Which request made which revision.
fn changes(ops: &[Op], truth: &Truth) -> Result<HashMap<usize, i64>, String> {
    let mut by_value: HashMap<&Bytes, usize> = HashMap::new();
    let mut deletes: HashMap<i64, usize> = HashMap::new();
    let mut open_deletes: HashMap<&Bytes, Vec<usize>> = HashMap::new();
    for (at, op) in ops.iter().enumerate() {
        match (&op.ask, &op.told) {
            (Ask::Put { value, .. }, _) => drop(by_value.insert(value, at)),
            (Ask::Swap { puts, third, .. }, _) => {
                by_value.extend(puts.iter().chain([third]).map(|(_, value)| (value, at)));
            }
            (Ask::Delete { .. }, Some((revision, Seen::Deleted(gone)))) if !gone.is_empty() => {
                if let Some(other) = deletes.insert(*revision, at) {
                    return Err(format!("one revision for {op:?} and {:?}", ops[other]));
                }
            }
            (Ask::Delete { key }, None) => open_deletes.entry(key).or_default().push(at),
            _ => {}
        }
    }
    open_deletes.values_mut().for_each(|open| open.sort_by_key(|at| Reverse(ops[*at].asked)));
    let mut took: HashMap<usize, i64> = HashMap::new();
    for (&revision, events) in &truth.events {
        let mut changes: Vec<Change> = events.iter().map(change).collect();
        changes.sort();
        let Some((key, value)) = changes.first() else { return Err(format!("nothing at {revision}")) };
        if !key.starts_with(FROM) {
            continue;
        }
        let maker = match value {
            Some(value) => by_value.get(value).copied(),
            // Which of several that nobody was told of does not matter: the first.
            None => deletes.get(&revision).copied().or_else(|| open_deletes.get_mut(key)?.pop()),
        };
        let Some(at) = maker else { return Err(format!("nobody asked for revision {revision}: {events:?}")) };
        let op = &ops[at];
        if let Some(other) = took.insert(at, revision) {
            return Err(format!("{op:?} took effect twice, at {other} and at {revision}"));
        }
        if changes != effect(&op.ask, held(&op.ask, truth, revision)) {
            return Err(format!("{op:?} made {events:?}"));
        }
        if op.told.as_ref().is_some_and(|(told, _)| *told != revision) {
            return Err(format!("revision {revision} is that of {op:?}"));
        }
    }
    for (at, op) in ops.iter().enumerate() {
        let nothing = matches!(&op.told, Some((_, Seen::Deleted(gone))) if gone.is_empty());
        if op.told.is_some() && op.ask.writes() && !nothing && !took.contains_key(&at) {
            return Err(format!("acknowledged and lost: {op:?}"));
        }
    }
    Ok(took)
}

/// Whether a transaction's condition holds just before it takes effect at `revision`.
fn held(ask: &Ask, truth: &Truth, revision: i64) -> bool {
    match ask {
        Ask::Swap { guard, below, .. } => truth.at(guard, revision - 1).map_or(0, |kv| kv.version) < *below,
        _ => true,
    }
}

/// Whether an answer says what is so at its revision.
fn contents(op: &Op, truth: &Truth) -> Result<(), String> {
    let Some((revision, seen)) = &op.told else { return Ok(()) };
    let one = |key: &Bytes, at: i64| truth.at(key, at).cloned().into_iter().collect::<Vec<KeyValue>>();
    let right = match &op.ask {
        Ask::Put { key, .. } => Seen::Pairs(one(key, revision - 1)),
        Ask::Delete { key } => match seen {
            Seen::Deleted(gone) if gone.is_empty() => Seen::Deleted(one(key, *revision)),
            _ => Seen::Deleted(one(key, revision - 1)),
        },
        Ask::Swap { guard, .. } => Seen::Branch(held(&op.ask, truth, *revision), one(guard, revision - 1)),
        Ask::Get { key, .. } => Seen::Pairs(one(key, *revision)),
        Ask::All { revision: at, .. } => {
            Seen::Pairs(truth.all(FROM, END, if *at == 0 { *revision } else { *at }))
        }
        Ask::Compact { .. } => Seen::Nothing,
    };
    if *seen == right { Ok(()) } else { Err(format!("the answer should be {right:?}")) }
}

/// The order of revisions against that of time.
fn real_time(ops: &[Op], took: &HashMap<usize, i64>) -> Result<(), String> {
    let mut asked: Vec<usize> = (0..ops.len()).collect();
    asked.sort_by_key(|at| ops[*at].asked);
    let mut ended: Vec<usize> = asked.iter().copied().filter(|at| ops[*at].told.is_some()).collect();
    ended.sort_by_key(|at| ops[*at].ended);
    let mut ended = ended.into_iter().peekable();
    let mut floor: Option<(i64, usize)> = None;
    for at in asked {
        let op = &ops[at];
        while let Some(before) = ended.next_if(|before| ops[*before].ended < op.asked) {
            let revision = ops[before].told.as_ref().map_or(0, |(revision, _)| *revision);
            floor = floor.max(Some((revision, before)));
        }
        let Some((least, before)) = floor else { continue };
        // A write that nobody was told of has the revision at which it was seen.
        let writes = took.get(&at);
        let revision = match (&op.told, writes) {
            (Some((revision, _)), _) if writes.is_some() || op.ask.is_linearizable() => *revision,
            (None, Some(revision)) => *revision,
            _ => continue,
        };
        if revision < least + i64::from(writes.is_some()) {
            return Err(format!("at {revision}: {op:?}\nis stale after {:?}", ops[before]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn kv(value: &str, created: i64, revision: i64, version: i64) -> KeyValue {
        let (key, value) = (text("k/01"), text(value));
        KeyValue { key, value, create_revision: created, mod_revision: revision, version, lease: 0 }
    }

    fn op(asked: u64, ended: u64, ask: Ask, told: Option<(i64, Seen)>) -> Op {
        let [asked, ended] = [asked, ended].map(Duration::from_millis);
        Op { client: 0, member: "m1".to_owned(), ask, asked, ended, told }
    }

    fn put(value: &str) -> Ask {
        Ask::Put { key: text("k/01"), value: text(value) }
    }

    fn get(serializable: bool) -> Ask {
        Ask::Get { key: text("k/01"), serializable }
    }

    /// `a`, then `b`, of which nobody was told, then a delete; and reads between them.
    fn history() -> (Truth, Vec<Op>) {
        let mut truth = Truth::new();
        let put_event = |kv: &KeyValue, prev_kv: Option<KeyValue>| Event {
            r#type: EventType::Put.into(),
            kv: Some(kv.clone()),
            prev_kv,
        };
        let (a, b) = (kv("a", 2, 2, 1), kv("b", 2, 3, 2));
        truth.extend(2, &[put_event(&a, None)]).unwrap();
        truth.extend(3, &[put_event(&b, Some(a.clone()))]).unwrap();
        let gone = KeyValue { key: a.key.clone(), mod_revision: 4, ..Default::default() };
        let delete = Event { r#type: EventType::Delete.into(), kv: Some(gone), prev_kv: Some(b.clone()) };
        truth.extend(4, &[delete]).unwrap();
        let ops = vec![
            op(0, 1, put("a"), Some((2, Seen::Pairs(Vec::new())))),
            op(2, 3, get(false), Some((2, Seen::Pairs(vec![a.clone()])))),
            op(4, 9, put("b"), None),
            op(5, 6, get(false), Some((3, Seen::Pairs(vec![b.clone()])))),
            op(7, 8, get(true), Some((2, Seen::Pairs(vec![a])))),
            op(7, 9, Ask::Delete { key: text("k/01") }, Some((4, Seen::Deleted(vec![b])))),
            op(10, 11, put("never"), None),
        ];
        (truth, ops)
    }

    #[test]
    fn a_right_history_is_right_and_what_is_open_stays_open() {
        let (truth, ops) = history();
        let open = check(ops, &truth).unwrap();
        assert!(matches!(&open[..], [Op { ask: Ask::Put { value, .. }, .. }] if value == "never"));
    }

    type Mistake = fn(&mut Vec<Op>);

    #[test]
    fn each_mistake_is_noticed() {
        let mistakes: [(&str, Mistake); 8] = [
            ("lost", |ops| ops[6].told = Some((5, Seen::Pairs(Vec::new())))),
            ("nobody asked", |ops| drop(ops.remove(2))),
            ("nobody asked", |ops| drop(ops.remove(5))),
            ("is stale after", |ops| (ops[4].ask, ops[4].asked) = (get(false), ops[5].asked)),
            // Shown before it was asked for.
            ("is stale after", |ops| ops[2].asked = Duration::from_millis(7)),
            ("should be", |ops| ops[1].told = Some((3, ops[1].told.clone().unwrap().1))),
            ("should be", |ops| ops[0].told = Some((2, Seen::Pairs(vec![kv("z", 1, 1, 1)])))),
            ("revision 2 is that of", |ops| ops[0].told = Some((3, Seen::Pairs(Vec::new())))),
        ];
        for (words, mistake) in mistakes {
            let (truth, mut ops) = history();
            mistake(&mut ops);
            let why = check(ops, &truth).unwrap_err();
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    #[test]
    fn a_gap_or_a_break_in_the_changes_is_noticed() {
        let (mut truth, _) = history();
        let event = |kv: KeyValue| Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None };
        assert!(truth.extend(6, &[event(kv("c", 6, 6, 1))]).unwrap_err().contains("after revision 4"));
        assert!(truth.extend(5, &[event(kv("c", 2, 5, 3))]).unwrap_err().contains("should be"));
        truth.extend(5, &[event(kv("c", 5, 5, 1))]).unwrap();
    }
}

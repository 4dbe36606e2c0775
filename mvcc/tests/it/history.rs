//! A history: what happens to a store, as data, so that a failing one can be made smaller.

use bytes::Bytes;
use ketch_mvcc::{KeyRange, Query, SortOrder, SortTarget};

use crate::random::Random;

/// One change inside a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        range: KeyRange,
    },
    /// Read in the middle of the transaction, own writes included.
    Read {
        query: Query,
    },
}

/// A watcher to add; it starts so many revisions below the newest, or now.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) range: KeyRange,
    pub(crate) behind: Option<i64>,
    pub(crate) previous: bool,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Txn(Vec<Change>),
    /// Compact to so many revisions below the newest; may be refused.
    Compact {
        behind: i64,
    },
    TablePut {
        table: u8,
        key: u8,
        value: u8,
    },
    TableDelete {
        table: u8,
        key: u8,
    },
    Commit,
    /// Compare the answer to a query, at so many revisions below the newest.
    Read {
        query: Query,
        behind: i64,
    },
    /// Compare every revision and the hashes.
    Inspect,
    /// Take a view now and compare it at the end of the history.
    Pin,
    /// Let go of all pinned views after comparing them.
    Unpin,
    Watch(Watch),
    CancelWatch {
        nth: usize,
    },
    /// The hub hands on some events.
    Distribute {
        budget: usize,
    },
    /// A consumer takes some of them.
    Take {
        batches: usize,
        max: usize,
    },
    /// Every watcher gets everything; compare.
    CatchUp,
    Step {
        budget: usize,
    },
    Background {
        budget: usize,
    },
    Checkpoint,
    /// Move to another disk by snapshot, in chunks of so many bytes, and go on there.
    Transfer {
        max: usize,
    },
    /// Take over a store that was made from a snapshot and has gone on since: every change a transaction, then a compaction.
    Adopt {
        max: usize,
        changes: Vec<Change>,
        compact: Option<i64>,
    },
    /// Move to another disk by a snapshot that one state begins and another one, so many changes and perhaps a compaction apart, ends.
    Relay {
        max: usize,
        /// So many chunks are of the first state.
        first: usize,
        changes: Vec<Change>,
        compact: Option<i64>,
        /// The later state begins.
        backwards: bool,
    },
    Sync,
    /// Commit, then close and open again.
    Restart,
    /// The process dies: what was committed stays.
    Kill,
    /// The machine dies: what was not synced may be lost or torn.
    Crash,
}

const KEYS: [&[u8]; 9] = [b"a", b"ab", b"b", b"ba", b"c", b"d\xff", b"d\xff\xff", b"e", b"\0"];

fn key(random: &mut Random) -> Bytes {
    Bytes::from_static(random.pick::<&[u8]>(&KEYS))
}

pub(crate) fn range(random: &mut Random) -> KeyRange {
    let key = key(random);
    match random.below(6) {
        0 | 1 => KeyRange::Single(key),
        2 => KeyRange::prefix(key),
        3 => KeyRange::all(),
        4 => KeyRange::from_wire(key, Bytes::from_static(b"\0")),
        _ => KeyRange::from_wire(key, Bytes::from_static(random.pick::<&[u8]>(&KEYS))),
    }
}

fn query(random: &mut Random) -> Query {
    let mut query = Query::new(range(random));
    if random.one_in(2) {
        query.limit = random.below(5);
    }
    query.count_only = random.one_in(6);
    query.keys_only = random.one_in(4);
    if random.one_in(3) {
        let targets =
            [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        query.sort = Some((*random.pick(&targets), *random.pick(&orders)));
    }
    if random.one_in(5) {
        let bound = |random: &mut Random| if random.one_in(2) { random.below(20) as i64 } else { 0 };
        query.min_mod_revision = bound(random);
        query.max_mod_revision = bound(random);
        query.min_create_revision = bound(random);
        query.max_create_revision = bound(random);
    }
    query
}

fn change(random: &mut Random) -> Change {
    match random.below(10) {
        0..=5 => {
            let len = *random.pick(&[0, 1, 3, 40, 300]);
            let value = vec![random.below(256) as u8; len].into();
            Change::Put { key: key(random), value, lease: random.below(3) as i64 }
        }
        6..=8 => Change::Delete { range: range(random) },
        _ => Change::Read { query: query(random) },
    }
}

fn watch(random: &mut Random) -> Watch {
    Watch {
        range: range(random),
        behind: (!random.one_in(3)).then(|| random.below(16) as i64 - 3),
        previous: random.one_in(2),
        no_put: random.one_in(6),
        no_delete: random.one_in(6),
    }
}

fn op(random: &mut Random) -> Op {
    match random.below(120) {
        100..=105 => Op::Watch(watch(random)),
        106 => Op::CancelWatch { nth: random.below(5) as usize },
        107..=112 => Op::Distribute { budget: 1 + random.below(6) as usize },
        113..=117 => Op::Take { batches: 1 + random.below(4) as usize, max: 1 + random.below(6) as usize },
        118..=119 => Op::CatchUp,
        0..=44 => {
            let changes = if random.one_in(3) { random.below(5) } else { 1 };
            Op::Txn((0..changes).map(|_| change(random)).collect())
        }
        45..=62 => Op::Commit,
        63..=66 => Op::Compact { behind: random.below(12) as i64 - 1 },
        67 => Op::TablePut {
            table: random.below(3) as u8,
            key: random.below(3) as u8,
            value: random.below(256) as u8,
        },
        68 => Op::TableDelete { table: random.below(3) as u8, key: random.below(3) as u8 },
        69..=78 => Op::Read { query: query(random), behind: random.below(20) as i64 - 2 },
        79..=80 => Op::Inspect,
        81..=82 => Op::Pin,
        83 => Op::Unpin,
        84..=87 => Op::Step { budget: 1 + random.below(6) as usize },
        88..=93 => Op::Background { budget: 1 + random.below(30) as usize },
        94 if random.one_in(3) => Op::Transfer { max: *random.pick(&[1, 100, 10_000]) },
        94 if random.one_in(2) => Op::Adopt {
            max: *random.pick(&[50, 10_000]),
            changes: (0..random.below(6)).map(|_| change(random)).collect(),
            compact: random.one_in(2).then(|| random.below(8) as i64),
        },
        94 if random.one_in(2) => Op::Relay {
            max: *random.pick(&[1, 50, 300]),
            first: random.below(12) as usize,
            changes: (0..random.below(6)).map(|_| change(random)).collect(),
            compact: random.one_in(4).then(|| random.below(8) as i64),
            backwards: random.one_in(3),
        },
        94 => Op::Checkpoint,
        95 => Op::Sync,
        96..=97 => Op::Restart,
        98 => Op::Kill,
        _ => Op::Crash,
    }
}

/// The history named `seed`, of about `len` operations.
pub(crate) fn history(seed: u64, len: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    (0..len).map(|_| op(&mut random)).collect()
}

/// Makes a failing history smaller: leaves out ever smaller parts for as long as it still fails.
pub(crate) fn shrink(mut ops: Vec<Op>, fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut part = ops.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + part).min(ops.len()));
            if fails(&fewer) { ops = fewer } else { at += part }
        }
        part /= 2;
    }
    ops
}

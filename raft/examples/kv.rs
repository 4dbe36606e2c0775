//! A durable key-value store: one voter over a `ketch-wal` log. Run it twice; it remembers.
//!
//!     cargo run -p ketch-raft --example kv -- put colour blue
//!     cargo run -p ketch-raft --example kv -- get colour

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use ketch_raft::drive::{Committed, Log, drive};
use ketch_raft::{
    ConfState, Config, Entry, Fetched, HardState, Index, MemoryStorage, Node, NodeId, Payload, SnapshotMeta,
    Storage, StorageError, Term,
};
use ketch_wal::{Batch, Options, Position, RealDisk, Wal};

const ENTRY: u8 = 1;
const HARD_STATE: u8 = 2;

/// The log: on disk in the wal, and in memory to be read.
struct WalLog {
    memory: MemoryStorage,
    wal: Wal,
}

impl WalLog {
    fn open(dir: &std::path::Path) -> Result<WalLog, Box<dyn Error>> {
        let options = Options { segment_bytes: 1 << 20, ..Options::default() };
        let wal = Wal::open(Arc::new(RealDisk), dir, options)?.wal;
        let mut memory = MemoryStorage::with_voters([1]);
        for record in wal.iter(Position::START) {
            let record = record?;
            let word = |at: usize| {
                u64::from_be_bytes(record.data[at * 8..at * 8 + 8].try_into().unwrap_or_default())
            };
            if record.kind == ENTRY {
                memory.append(&[Entry::normal(word(0), word(1), record.data.slice(16..))])?;
            } else {
                memory.set_hard_state(HardState { term: word(0), vote: word(1), commit: word(2) });
            }
        }
        Ok(WalLog { memory, wal })
    }
}

impl Log for WalLog {
    fn persist(
        &mut self,
        hard_state: Option<HardState>,
        entries: &[Entry],
        _: Option<&SnapshotMeta>,
        must_sync: bool,
    ) -> Result<(), StorageError> {
        let mut batch = Batch::new();
        for Entry { term, index, payload } in entries {
            if let Payload::Normal(data) = payload {
                batch.push(ENTRY, &[&term.to_be_bytes(), &index.to_be_bytes(), data]);
            }
        }
        if let Some(HardState { term, vote, commit }) = hard_state {
            batch.push(HARD_STATE, &[&term.to_be_bytes(), &vote.to_be_bytes(), &commit.to_be_bytes()]);
        }
        let written = if must_sync { self.wal.commit(&mut batch) } else { self.wal.append(&mut batch) };
        written.map_err(|error| StorageError::Failed(error.to_string()))?;
        self.memory.persist(hard_state, entries, None, must_sync)
    }

    fn keep_members(&mut self, _: &ConfState) -> Result<(), StorageError> {
        Ok(()) // one voter, for good
    }
}

/// Reads are answered from memory.
impl Storage for WalLog {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.memory.initial_state()
    }
    fn entries(&self, low: Index, high: Index, max_bytes: u64) -> Result<Fetched, StorageError> {
        self.memory.entries(low, high, max_bytes)
    }
    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.memory.term(index)
    }
    fn first_index(&self) -> Index {
        self.memory.first_index()
    }
    fn last_index(&self) -> Index {
        self.memory.last_index()
    }
    fn snapshot(&self, at_least: Index, to: NodeId) -> Result<SnapshotMeta, StorageError> {
        self.memory.snapshot(at_least, to)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let log = WalLog::open(&std::env::temp_dir().join("ketch-raft-kv"))?;
    let mut node = Node::new(Config { id: 1, ..Config::default() }, log)?;
    node.campaign()?;
    let mut state = BTreeMap::new();
    if let [verb, key, value] = &args[..]
        && verb == "put"
    {
        let _ = drive(&mut node, |committed| apply(&mut state, &committed))?;
        node.propose(Bytes::from(format!("{key}={value}")))?;
    }
    let _ = drive(&mut node, |committed| apply(&mut state, &committed))?;
    println!("{:?}", args.get(1).map(|key| (key, state.get(key))));
    Ok(())
}

fn apply(state: &mut BTreeMap<String, String>, committed: &Committed<'_>) {
    if let Committed::Entry(Entry { payload: Payload::Normal(data), .. }) = committed
        && let Some((key, value)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('='))
    {
        state.insert(key.to_string(), value.to_string());
    }
}

//! Snapshots between members: pinned views, sent piece by piece, staged on the other member's disk.

use bytes::Bytes;
use ketch_mvcc::{Held, ImportError};
use ketch_raft::{Apply, Body, Message};

use super::apply::TABLE_OF_BUGS;
use super::planted::Bug;
use super::queue::{What, Who};
use super::world::World;
use crate::consensus::core::Input;
use crate::staging::{Incoming, Pinned, StageError};

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    from: Who,
    to: Who,
    message: Message,
    pinned: Pinned,
    incoming: Option<Incoming>,
    /// What it holds.
    state: (i64, u64),
}

impl World {
    /// Pins a view for members that need a snapshot.
    pub(super) fn pin(&mut self, at: usize) {
        let Some(live) = &mut self.nodes[at].live else { return };
        let pinned = live.applier.pin();
        let meta = pinned.meta.clone();
        let older = live.older.take().filter(|_| self.options.planted == Some(Bug::SnapshotMissesLastBatch));
        let pinned = Pinned { view: older.map_or(pinned.view, |older| older.view), ..pinned };
        live.pinned = Some(pinned);
        self.note(meta.index, || format!("a view at {} is pinned", meta.index));
        self.input(at, Input::Pinned(meta));
    }

    /// Begins to send the pinned view.
    pub(super) fn send_snapshot(&mut self, from: Who, to: usize, message: Message) {
        let Body::Snapshot { meta } = &message.body else { return };
        let pinned = self.nodes[from.node].live.as_ref().and_then(|live| live.pinned.clone());
        let pinned = pinned.filter(|pinned| pinned.meta.index == meta.index);
        let (Some(pinned), Some(to)) = (pinned, self.who(to)) else {
            return self.input(from.node, Input::SnapshotReport { to: message.to, ok: false });
        };
        self.stats.snapshots_sent += 1;
        let index = meta.index;
        self.note(index, || format!("{:x} sends {:x} a snapshot at {index}", message.from, message.to));
        let state = self.states.get(&index).copied().unwrap_or_default();
        self.transfers += 1;
        let number = self.transfers;
        self.on_the_way.insert(number, Transfer { from, to, message, pinned, incoming: None, state });
        let us = self.up_to(self.options.delay_us);
        self.after(us, What::Chunk(number));
    }

    /// The next piece of a snapshot arrives.
    pub(super) fn chunk(&mut self, number: u64) -> Result<(), String> {
        let Some(mut transfer) = self.on_the_way.remove(&number) else { return Ok(()) };
        let Who { node: to, life } = transfer.to;
        if self.nodes[to].in_life(life).is_none() {
            // What was staged so far died with the process.
            self.report_snapshot(&transfer, false);
            return Ok(());
        }
        let cut = self.network.is_cut(transfer.from.node, to) || self.network.is_cut(to, transfer.from.node);
        let sender_died = self.nodes[transfer.from.node].in_life(transfer.from.life).is_none();
        if cut || sender_died || (!self.healed && self.random.one_in(40)) {
            return self.cut_off(transfer);
        }
        let paused = self.nodes[to].deferred.is_some() || self.nodes[transfer.from.node].deferred.is_some();
        let us = self.up_to(self.options.delay_us + if paused { self.options.tick_us } else { 0 });
        let done = if paused { Ok(false) } else { self.take_chunk(&mut transfer) };
        match done {
            Ok(false) => {
                let from = transfer.from.node;
                self.on_the_way.insert(number, transfer);
                self.after(us, What::Chunk(number));
                if !self.healed
                    && self.options.senders_die > 0
                    && self.random.one_in(self.options.senders_die)
                {
                    self.sender_dies(from);
                }
                Ok(())
            }
            Ok(true) => self.staged(transfer),
            Err(error) => self.not_staged(transfer, &error),
        }
    }

    /// A snapshot is not taken in: the member goes on as before. On a healthy disk it has good reasons only: another one
    /// is on its way, or the other half's files are not closed yet.
    fn not_staged(&mut self, transfer: Transfer, error: &StageError) -> Result<(), String> {
        let to = transfer.to.node;
        self.stats.snapshots_refused += 1;
        let id = self.nodes[to].id;
        self.note(id, || format!("{id:x} does not take the snapshot: {error}"));
        self.report_snapshot(&transfer, false);
        let good = matches!(error, StageError::Busy | StageError::Import(ImportError::Open(_)));
        if good || self.nodes[to].armed || self.nodes[transfer.from.node].rotten {
            return Ok(());
        }
        Err(format!("{id:x} cannot stage a snapshot: {error}"))
    }

    /// True when it was the last one.
    fn take_chunk(&mut self, transfer: &mut Transfer) -> Result<bool, StageError> {
        let Some(live) = &mut self.nodes[transfer.to.node].live else { return Ok(false) };
        let incoming = match transfer.incoming.take() {
            Some(incoming) => transfer.incoming.insert(incoming),
            None => {
                live.staging.tidy(live.applier.store().applied().index);
                let begun = live.staging.begin(&transfer.pinned.meta)?;
                self.stats.snapshots_resumed += u64::from(begun.held() != Held::NOTHING);
                transfer.incoming.insert(begun)
            }
        };
        let mut held = incoming.held();
        if self.options.planted == Some(Bug::RelayAcrossCompaction) {
            held = compacted_alike(&held, transfer.pinned.view.compacted());
        }
        let mut export = transfer.pinned.view.export_after(&held);
        match export.next_chunk(self.options.chunk_bytes) {
            Ok(Some(chunk)) => {
                let before = incoming.times_gone_on();
                incoming.chunk(&chunk.bytes)?;
                self.stats.snapshots_gone_on += incoming.times_gone_on() - before;
                Ok(false)
            }
            Ok(None) => Ok(true),
            // The sender's disk: it will notice by itself.
            Err(_fault) => Err(StageError::Busy),
        }
    }

    /// Its process is gone until others have long led.
    fn sender_dies(&mut self, at: usize) {
        let us = self.options.tick_us * u64::from(self.options.election_ticks) * 4;
        self.kill(at, us);
    }

    fn staged(&mut self, mut transfer: Transfer) -> Result<(), String> {
        let to = transfer.to.node;
        let (Some(incoming), Some(live)) = (transfer.incoming.take(), &self.nodes[to].live) else {
            return Ok(());
        };
        if let Err(error) = live.staging.finish(incoming) {
            return self.not_staged(transfer, &error);
        }
        self.stats.snapshots_staged += 1;
        if let Body::Snapshot { meta } = &transfer.message.body {
            assert!(live.staging.offer(meta), "what was staged is there");
        }
        self.report_snapshot(&transfer, true);
        let index = transfer.pinned.meta.index;
        // What it holds is what the sender had there.
        if transfer.state != (0, 0) {
            self.states.entry(index).or_insert(transfer.state);
        }
        self.note(index, || format!("{:x} has staged the snapshot at {index}", transfer.message.to));
        self.input(to, Input::Message(Box::new(transfer.message)));
        Ok(())
    }

    fn cut_off(&mut self, mut transfer: Transfer) -> Result<(), String> {
        self.stats.snapshots_cut += 1;
        self.report_snapshot(&transfer, false);
        if let (Some(incoming), Some(live)) = (transfer.incoming.take(), &self.nodes[transfer.to.node].live) {
            live.staging.suspend(incoming);
        }
        Ok(())
    }

    fn report_snapshot(&mut self, transfer: &Transfer, ok: bool) {
        let Who { node, life } = transfer.from;
        if self.nodes[node].in_life(life).is_some() {
            self.input(node, Input::SnapshotReport { to: transfer.message.to, ok });
        }
    }

    /// Puts a received snapshot in the store's place. False when the member stopped.
    pub(super) fn install(&mut self, at: usize, job: &Apply) -> Result<bool, String> {
        let Some(meta) = &job.snapshot else { return Ok(true) };
        let Some(live) = &mut self.nodes[at].live else { return Ok(false) };
        self.stats.snapshots_installed += 1;
        if self.options.planted == Some(Bug::EntriesAfterSnapshotToOldStore) {
            let store = live.applier.store_mut();
            store.table_put(TABLE_OF_BUGS, Bytes::from_static(b"snapshot"), Bytes::new());
            let _wrong_anyway = store.commit(ketch_mvcc::Applied { index: meta.index, term: meta.term });
            self.kill(at, 1);
            return Ok(false);
        }
        match live.applier.install(meta, &live.staging) {
            Ok(()) => {
                let (id, index) = (self.nodes[at].id, meta.index);
                self.note(index, || format!("{id:x} has installed the snapshot at {index}"));
                self.compare_state(at)
            }
            Err(why) => {
                // Where the store cannot be taken over in place, a restart does it.
                let armed = self.nodes[at].armed;
                self.nodes[at].armed = armed || why.contains("a restart installs it");
                self.stopped(at, &why)?;
                self.nodes[at].armed = armed;
                Ok(false)
            }
        }
    }
}

/// With a bug planted: what a receiver has, as if it had been compacted to `compacted`.
fn compacted_alike(held: &Held, compacted: i64) -> Held {
    const COMPACTED_AT: usize = 13 + 8;
    let mut bytes = held.to_bytes();
    bytes[COMPACTED_AT..COMPACTED_AT + 8].copy_from_slice(&compacted.to_le_bytes());
    Held::from_bytes(&bytes).unwrap_or(Held::NOTHING)
}

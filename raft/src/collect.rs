//! Making a Ready: which lane takes what.

use crate::core::batch_bytes;
use crate::error::Fault;
use crate::lanes::{Applying, Batch, Install, Mark};
use crate::log::Slice;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::planted::Bug;
use crate::ready::{Apply, ApplyToken, Fetch, FetchPurpose, FetchToken, Persist, PersistToken, Ready};
use crate::storage::Storage;
use crate::types::Entry;

impl<S: Storage> Node<S> {
    /// Is anything due?
    pub fn has_ready(&self) -> bool {
        let core = &self.core;
        if self.is_stopped() {
            return false;
        }
        let fetched = !core.fetched.is_empty();
        core.soft_state() != self.told_soft
            || core.hard_state() != self.told_hard
            || core.log.unstable.next_snapshot().is_some()
            || !core.log.unstable.next_entries().is_empty()
            || !core.outbox.is_empty()
            || !core.promises.is_empty()
            || !self.lanes.released.is_empty()
            || self.lanes.install == Install::Due
            || (core.log.has_appliable() && (!core.fetching_apply || fetched))
            || !core.read_states.is_empty()
            || !core.fetches.is_empty()
            || core.broadcast_due
            || core.owes_notices()
            || core.reads.needs_round()
    }

    /// Everything that became due. Empty after a fault.
    pub fn ready(&mut self) -> Ready {
        if self.is_stopped() {
            return Ready::default();
        }
        match self.collect() {
            Ok(ready) => {
                self.check();
                ready
            }
            Err(fault) => {
                self.stop(fault);
                Ready::default()
            }
        }
    }

    /// Messages of promises that came true since the last Ready, for an owner who wants to send them before it
    /// makes the next one.
    pub fn take_released(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.lanes.released)
    }

    fn collect(&mut self) -> Result<Ready, Fault> {
        self.core.flush()?;
        if self.core.gathers() {
            self.settle()?;
            self.core.flush()?;
        }
        let soft = self.core.soft_state();
        let soft = (soft != std::mem::replace(&mut self.told_soft, soft)).then_some(soft);
        let apply = self.collect_entries()?;
        let send = self.collect_messages();
        let persist = self.collect_persist()?;
        let apply = apply.or_else(|| self.collect_snapshot());
        Ok(Ready {
            soft,
            send,
            persist,
            apply,
            reads: std::mem::take(&mut self.core.read_states),
            fetch: std::mem::take(&mut self.core.fetches),
        })
    }

    /// Promises that rest on nothing still being written come true at once.
    fn settle(&mut self) -> Result<(), Fault> {
        while !self.core.promises.is_empty() && !self.has_unsaved() && self.lanes.newest_synced().is_none() {
            let promises = std::mem::take(&mut self.core.promises);
            self.keep_promises(promises)?;
        }
        Ok(())
    }

    /// Something a promise could rest on was not handed out yet.
    fn has_unsaved(&self) -> bool {
        let (hard, told) = (self.core.hard_state(), self.told_hard);
        hard.term != told.term
            || hard.vote != told.vote
            || !self.core.log.unstable.next_entries().is_empty()
            || self.core.log.unstable.next_snapshot().is_some()
    }

    /// Votes asked for wait like promises: a member must not win with a log, or in a term, that it may forget.
    fn collect_messages(&mut self) -> Vec<Message> {
        let mut send = std::mem::take(&mut self.lanes.released);
        if self.core.bug(Bug::AppendAckEarly) {
            let id = self.core.id;
            let early =
                |message: &Message| message.to != id && matches!(message.body, Body::AppendAnswer { .. });
            send.extend(self.core.promises.extract_if(.., |message| early(message)));
        }
        let asks_early = self.core.bug(Bug::VoteAskedEarly) || self.core.bug(Bug::EarlierBootAccepted);
        if asks_early || !self.core.outbox.iter().any(asks_for_vote) {
            send.append(&mut self.core.outbox);
            return send;
        }
        let (wait, go): (Vec<_>, Vec<_>) = self.core.outbox.drain(..).partition(asks_for_vote);
        send.extend(go);
        self.core.promises.splice(0..0, wait);
        send
    }

    fn collect_persist(&mut self) -> Result<Option<Persist>, Fault> {
        let unstable = &self.core.log.unstable;
        let mut hard = self.core.hard_state();
        let told = self.told_hard;
        let (entries, snapshot) = (unstable.next_entries().to_vec(), unstable.next_snapshot().cloned());
        let holds = !unstable.entries.is_empty();
        let must_sync = self.has_unsaved();
        if !must_sync && self.core.gathers() {
            self.defer_promises();
        }
        if !must_sync && hard == told && self.core.promises.is_empty() {
            return Ok(None);
        }
        let last = if holds { Some(self.core.log.last_id()?) } else { None };
        let number = self.lanes.next_batch();
        self.lanes.batches.push_back(Batch {
            number,
            must_sync,
            promises: std::mem::take(&mut self.core.promises),
            mark: (holds || snapshot.is_some()).then_some(Mark { term: self.core.term, last }),
            snapshot: snapshot.clone(),
            persisted: false,
        });
        self.core.log.unstable.accept_in_progress();
        self.told_hard = hard;
        let token = PersistToken { life: self.core.life, number };
        if self.core.bug(Bug::OwnAckEarly) {
            let own = |message: &Message| message.to == self.core.id;
            let promises = self.lanes.batches.back_mut().map(|batch| &mut batch.promises);
            let early: Vec<Message> =
                promises.map(|all| all.extract_if(.., |message| own(message)).collect()).unwrap_or_default();
            early.into_iter().try_for_each(|promise| self.keep_promise(promise))?;
        }
        if self.core.bug(Bug::VoteForgotten) {
            hard.vote = 0;
        }
        Ok(Some(Persist { hard_state: (hard != told).then_some(hard), entries, snapshot, must_sync, token }))
    }

    /// Promises that rest on batches already on their way wait for the newest of those.
    fn defer_promises(&mut self) {
        if let Some(batch) = self.lanes.newest_synced() {
            batch.promises.append(&mut self.core.promises);
        }
    }

    fn collect_entries(&mut self) -> Result<Option<Apply>, Fault> {
        let entries = self.appliable()?;
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(None) };
        let (wire_bytes, payload_bytes) = batch_bytes(&entries);
        self.core.log.accept_applying(last, wire_bytes);
        let number = self.lanes.next_apply();
        self.lanes.applying.push_back(Applying { number, last, wire_bytes, payload_bytes, snapshot: false });
        Ok(Some(Apply { entries, snapshot: None, token: ApplyToken { life: self.core.life, number } }))
    }

    fn appliable(&mut self) -> Result<Vec<Entry>, Fault> {
        let (low, high, max_bytes) = self.core.log.appliable_range();
        if !self.core.fetched.is_empty() && self.core.log.has_appliable() {
            let fetched = std::mem::take(&mut self.core.fetched);
            let entries: Vec<Entry> = fetched.into_iter().filter(|entry| entry.index < high).collect();
            if entries.first().is_some_and(|entry| entry.index == low) {
                return Ok(entries);
            }
        }
        match self.core.log.appliable()? {
            Slice::Here(entries) => Ok(entries),
            Slice::Compacted => {
                Err(Fault::StorageInconsistent("entries were compacted before they were applied"))
            }
            Slice::Pending => {
                if !std::mem::replace(&mut self.core.fetching_apply, true) {
                    let token = FetchToken { life: self.core.life, low, purpose: FetchPurpose::Apply };
                    let high = high.min(self.core.log.unstable.offset);
                    self.core.fetches.push(Fetch { low, high, max_bytes, token });
                }
                Ok(Vec::new())
            }
        }
    }

    /// A snapshot is installed once it is recorded; with [`ApplyTiming::WithPersist`](crate::ApplyTiming) the owner
    /// does both, in this order, in one go.
    fn collect_snapshot(&mut self) -> Option<Apply> {
        if self.core.applies_with_persist()
            && self.lanes.install == Install::None
            && self.lanes.batches.front().is_some_and(|batch| batch.snapshot.is_some())
        {
            self.lanes.install = Install::Due;
        }
        if self.lanes.install != Install::Due {
            return None;
        }
        let snapshot = self.lanes.batches.front()?.snapshot.clone()?;
        self.lanes.install = Install::Running;
        let number = self.lanes.next_apply();
        let last = snapshot.index;
        self.lanes.applying.push_back(Applying {
            number,
            last,
            wire_bytes: 0,
            payload_bytes: 0,
            snapshot: true,
        });
        Some(Apply {
            entries: Vec::new(),
            snapshot: Some(snapshot),
            token: ApplyToken { life: self.core.life, number },
        })
    }
}

fn asks_for_vote(message: &Message) -> bool {
    matches!(message.body, Body::Vote { .. })
}

//! What a member's shell does: carries out Readys, moves messages, syncs, applies, fetches.

use super::cluster::{Parcel, Simulation, What};
use super::{StateMachine, disk::SimStorage};
use crate::membership::ConfState;
use crate::message::{Body, Message};
use crate::node::Node;
use crate::ready::{Apply, Fetch, Ready};
use crate::storage::{Fetched, Storage};
use crate::types::{NodeId, Payload};

impl<M: StateMachine> Simulation<M> {
    /// Carries out everything that is due on a member, and checks it.
    pub(crate) fn drain(&mut self, id: NodeId) -> Result<(), String> {
        let at = self.at(id);
        self.check_member(id)?;
        while let Some(node) = &mut self.members[at].node {
            if !node.has_ready() {
                break;
            }
            let ready = node.ready();
            self.check_member(id)?;
            self.carry_out(id, ready)?;
            let wanted = self.node(id).is_some_and(|node| node.storage().wanted.take());
            if wanted && !self.members[at].applying {
                self.members[at].checkpoint().map_err(|fault| format!("{id}: {fault}"))?;
            }
        }
        self.check_member(id)
    }

    fn carry_out(&mut self, id: NodeId, ready: Ready) -> Result<(), String> {
        let at = self.at(id);
        for message in ready.send {
            self.check_rests_on_disk(id, &message)?;
            self.send(message);
        }
        if let Some(persist) = ready.persist {
            self.members[at].disk.push(persist);
            self.sync(id);
        }
        if let Some(apply) = ready.apply {
            self.check_durable(id, &apply)?;
            self.members[at].apply_queue.push_back(apply);
            self.start_applying(id);
        }
        for read in ready.reads {
            self.check_read(id, read)?;
        }
        let boot = self.members[at].boot;
        for fetch in ready.fetch {
            self.stats.fetches += 1;
            let ms = self.rng.between(1, self.options.sync_ms);
            self.after_ms(ms, What::FetchDone { id, boot, fetch });
        }
        Ok(())
    }

    /// One sync covers everything queued when it starts.
    fn sync(&mut self, id: NodeId) {
        let at = self.at(id);
        let disk = &mut self.members[at].disk;
        if disk.busy || disk.queue.is_empty() {
            return;
        }
        disk.busy = true;
        let batches = disk.queue.len();
        let boot = self.members[at].boot;
        let mut us = self.rng.between(1, self.options.sync_ms * 1000);
        if !self.healed && self.rng.chance(self.options.stuck) {
            us = self.options.sync_ms * 20_000;
            self.stats.stuck_syncs += 1;
        }
        self.after_us(us, What::SyncDone { id, boot, batches });
    }

    pub(crate) fn sync_done(&mut self, id: NodeId, boot: u64, batches: usize) -> Result<(), String> {
        if !self.is_alive(id, boot) {
            return Ok(());
        }
        let at = self.at(id);
        let member = &mut self.members[at];
        member.disk.busy = false;
        let done =
            member.disk.complete(batches).map_err(|error| format!("{id}: a batch leaves a gap: {error}"))?;
        for queued in done {
            self.history.note_entries(id, &queued.write.entries, &self.members[at].disk.synced)?;
            let Some(node) = &mut self.members[at].node else { continue };
            let log = &mut node.storage_mut().log;
            queued.write.apply(log).map_err(|error| format!("{id}: a batch leaves a gap: {error}"))?;
            node.persisted(queued.token).map_err(|fault| format!("{id}: {fault}"))?;
            self.check_member(id)?;
        }
        self.sync(id);
        self.drain(id)
    }

    fn start_applying(&mut self, id: NodeId) {
        let at = self.at(id);
        let member = &mut self.members[at];
        if member.applying || member.apply_queue.is_empty() {
            return;
        }
        member.applying = true;
        let boot = member.boot;
        let us = self.rng.between(1, self.options.apply_ms * 1000);
        self.after_us(us, What::ApplyDone { id, boot });
    }

    pub(crate) fn apply_done(&mut self, id: NodeId, boot: u64) -> Result<(), String> {
        if !self.is_alive(id, boot) {
            return Ok(());
        }
        let at = self.at(id);
        self.members[at].applying = false;
        if let Some(apply) = self.members[at].apply_queue.pop_front() {
            if apply.snapshot.is_some() { self.install(id, apply)? } else { self.apply(id, apply)? }
        }
        self.start_applying(id);
        self.drain(id)
    }

    fn apply(&mut self, id: NodeId, apply: Apply) -> Result<(), String> {
        let at = self.at(id);
        for entry in &apply.entries {
            let first_time = self.history.note_applied(id, self.members[at].live.applied, entry)?;
            self.stats.committed += u64::from(first_time);
            let member = &mut self.members[at];
            let Some(node) = &mut member.node else { return Ok(()) };
            if let Payload::ConfChange(change) = &entry.payload {
                let members = node.apply_conf_change(change).map_err(|fault| format!("{id}: {fault}"))?;
                let was_joint = member.live.members.is_joint();
                self.stats.changes += u64::from(first_time);
                self.stats.joint_changes += u64::from(first_time && (was_joint || members.is_joint()));
                member.live.members = members;
            }
            member.live.machine.apply(entry);
            member.live.applied = entry.index;
            member.live.term = entry.term;
            self.check_member(id)?;
        }
        let member = &mut self.members[at];
        member.live.machine.check().map_err(|what| format!("{id}: {what}"))?;
        let Some(node) = &mut member.node else { return Ok(()) };
        node.applied(apply.token).map_err(|fault| format!("{id}: {fault}"))
    }

    /// Swaps the state for a staged one, durably.
    fn install(&mut self, id: NodeId, apply: Apply) -> Result<(), String> {
        let at = self.at(id);
        let member = &mut self.members[at];
        let index = apply.snapshot.map_or(0, |meta| meta.index);
        let Some(store) = member.staged.get(&index).cloned() else {
            return Err(format!("{id} is to install snapshot {index}, which was never staged"));
        };
        if store.applied < member.live.applied {
            return Err(format!("{id} is to go back from {} to snapshot {index}", member.live.applied));
        }
        self.stats.snapshots_installed += 1;
        member.live = store.clone();
        member.saved = store.clone();
        member.offered.push_back(store);
        let Some(node) = &mut member.node else { return Ok(()) };
        node.applied(apply.token).map_err(|fault| format!("{id}: {fault}"))
    }

    pub(crate) fn fetch_done(&mut self, id: NodeId, boot: u64, fetch: Fetch) -> Result<(), String> {
        if !self.is_alive(id, boot) {
            return Ok(());
        }
        let at = self.at(id);
        if let Some(node) = &mut self.members[at].node {
            let log = &node.storage().log;
            let high = fetch.high.min(log.last_index() + 1);
            let entries = log.entries(fetch.low, high, fetch.max_bytes).map(|fetched| match fetched {
                Fetched::Here(entries) => entries,
                Fetched::Pending => Vec::new(),
            });
            node.fetched(fetch.token, entries);
        }
        self.drain(id)
    }

    /// Puts a message on the network, which does to it what it does.
    fn send(&mut self, message: Message) {
        let (from, to) = (message.from, message.to);
        if to == 0 || to > self.options.members {
            return;
        }
        let carrier = self.at(from);
        let payload = match &message.body {
            Body::Snapshot { meta } => {
                self.stats.snapshots_sent += 1;
                self.members[carrier].offered.iter().find(|store| store.applied == meta.index).cloned()
            }
            _ => None,
        };
        if matches!(message.body, Body::Snapshot { .. })
            && (payload.is_none() || (!self.healed && self.rng.chance(200)))
        {
            self.report_snapshot(from, to, false);
            return;
        }
        if self.cuts.iter().any(|cut| (cut.1, cut.2) == (from, to)) {
            self.stats.cut_off += 1;
            return self.lose(&message);
        }
        if !self.healed && self.rng.chance(self.options.drop) {
            self.stats.dropped += 1;
            return self.lose(&message);
        }
        let copies = if !self.healed && self.rng.chance(self.options.duplicate) { 2 } else { 1 };
        self.stats.duplicated += copies - 1;
        let to_boot = self.members[self.at(to)].boot;
        for _ in 0..copies {
            let mut us = self.rng.between(1, self.options.delay_ms * 1000);
            if !self.healed && self.rng.chance(self.options.late) {
                us = self.rng.between(1, self.options.late_ms * 1000);
                self.stats.held_back += 1;
            }
            let parcel = Parcel { message: message.clone(), to_boot, payload: payload.clone() };
            self.after_us(us, What::Arrive(Box::new(parcel)));
        }
    }

    /// The transport notices a lost snapshot, and sometimes a dead connection.
    fn lose(&mut self, message: &Message) {
        if matches!(message.body, Body::Snapshot { .. }) {
            self.report_snapshot(message.from, message.to, false);
        } else if self.rng.chance(50) {
            let at = self.at(message.from);
            if let Some(node) = &mut self.members[at].node {
                node.report_unreachable(message.to);
            }
        }
    }

    fn report_snapshot(&mut self, from: NodeId, to: NodeId, ok: bool) {
        let at = self.at(from);
        if let Some(node) = &mut self.members[at].node {
            node.report_snapshot(to, ok);
        }
    }

    pub(crate) fn arrive(&mut self, parcel: Parcel<M>) -> Result<(), String> {
        let Parcel { message, to_boot, payload } = parcel;
        let (from, to) = (message.from, message.to);
        let at = self.at(to);
        if self.members[at].node.is_none()
            || (to_boot != self.members[at].boot && !self.accepts_earlier_boots())
        {
            self.stats.earlier_life += 1;
            self.lose(&message);
            return self.drain(from);
        }
        self.stats.delivered += 1;
        self.mix(from << 32 | to);
        self.mix(message.term << 8 | message.body.name().len() as u64);
        if let (Body::Snapshot { meta }, Some(store)) = (&message.body, payload) {
            self.members[at].staged.insert(meta.index, store);
        }
        let Some(node) = &mut self.members[at].node else { return Ok(()) };
        let question = matches!(message.body, Body::PreVote { .. });
        let snapshot = matches!(message.body, Body::Snapshot { .. });
        let before = node.hard_state().term;
        let outcome = node.step(message);
        if question && node.hard_state().term != before {
            return Err(format!("a pre-vote moved {to} from term {before} to {}", node.hard_state().term));
        }
        if let Some(fault) = node.fault() {
            return Err(format!("{to}: {fault}"));
        }
        self.mix(u64::from(outcome.is_ok()));
        if snapshot {
            self.report_snapshot(from, to, true);
            self.drain(from)?;
        }
        self.drain(to)
    }

    fn accepts_earlier_boots(&self) -> bool {
        crate::planted::Bug::EarlierBootAccepted.is_planted(&self.options.config)
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&Node<SimStorage>> {
        self.members[self.at(id)].node.as_ref()
    }

    /// The members as the node sees them.
    pub(crate) fn members_of(&self, id: NodeId) -> Option<ConfState> {
        self.node(id).map(|node| node.core.tracker.conf_state())
    }
}

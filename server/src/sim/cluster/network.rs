//! The network between members: it cuts, drops, delays, repeats and reorders.

use std::collections::BTreeMap;

use ketch_raft::{Body, Message};

use super::queue::{Parcel, What, Who};
use super::world::World;
use crate::consensus::core::Input;

/// Who cannot reach whom, and when the last message on a lane arrives.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Partition, from, to.
    cuts: Vec<(u64, usize, usize)>,
    partitions: u64,
    lanes: BTreeMap<(usize, usize, bool), u64>,
}

impl Network {
    /// Cuts the directed links that `cut` names; returns the partition's number.
    pub(super) fn cut(&mut self, nodes: usize, cut: impl Fn(usize, usize) -> bool) -> u64 {
        self.partitions += 1;
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from && cut(from, *to)) {
                self.cuts.push((self.partitions, from, to));
            }
        }
        self.partitions
    }

    /// Ends a partition.
    pub(super) fn mend(&mut self, partition: u64) {
        self.cuts.retain(|cut| cut.0 != partition);
    }

    /// Ends all of them.
    pub(super) fn mend_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether everybody reaches everybody.
    pub(super) fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    /// Whether messages do not get through.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.iter().any(|cut| (cut.1, cut.2) == (from, to))
    }
}

impl World {
    /// Puts a message of the member on machine `from` on the network, which does to it what it does.
    pub(super) fn send(&mut self, from: usize, message: Message) {
        let to = self.nodes.iter().position(|node| node.id == message.to && !node.gone);
        let (Some(to), Some(sender)) = (to, self.who(from)) else { return };
        if matches!(message.body, Body::Snapshot { .. }) {
            return self.send_snapshot(sender, to, message);
        }
        // A connection ends with the life at its other end.
        let Some(receiver) = self.who(to) else { return self.lost(from, &message) };
        if self.network.is_cut(from, to) {
            self.stats.cut_off += 1;
            return self.lost(from, &message);
        }
        if !self.healed && self.chance(self.options.drop) {
            self.stats.dropped += 1;
            return self.lost(from, &message);
        }
        // A connection never repeats what it carries; that of a proposal would be a second one.
        let repeats = !matches!(message.body, Body::Propose { .. }) && self.chance(self.options.duplicate);
        let copies = if !self.healed && repeats { 2 } else { 1 };
        self.stats.duplicated += copies - 1;
        for _ in 0..copies {
            let at = self.arrival(from, to, &message);
            let parcel = Parcel { from: sender, to: receiver, message: message.clone() };
            self.queue.push(at, What::Arrive(Box::new(parcel)));
        }
    }

    fn arrival(&mut self, from: usize, to: usize, message: &Message) -> u64 {
        let late = !self.healed && self.chance(self.options.late);
        self.stats.held_back += u64::from(late);
        let us = if late { self.options.late_us } else { self.options.delay_us };
        let at = self.now + self.up_to(us);
        if !self.options.ordered {
            return at;
        }
        let bulky = matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty())
            || matches!(message.body, Body::Propose { .. });
        let last = self.network.lanes.entry((from, to, bulky)).or_default();
        *last = at.max(*last + 1);
        *last
    }

    /// The transport sometimes notices that a message was lost.
    fn lost(&mut self, from: usize, message: &Message) {
        if self.chance(100) {
            self.input(from, Input::Unreachable { to: message.to });
        }
    }

    pub(super) fn arrive(&mut self, parcel: Box<Parcel>) -> Result<(), String> {
        let to = parcel.to;
        if self.nodes[to.node].deferred.is_some() {
            self.defer(to, What::Arrive(parcel));
            return Ok(());
        }
        let here = self.nodes[to.node].live.as_ref().map(|live| live.life);
        if here != Some(to.life) {
            self.stats.earlier_life += 1;
            return Ok(());
        }
        self.stats.delivered += 1;
        let Parcel { from, message, .. } = *parcel;
        self.note_message(from, to, &message);
        self.input(to.node, Input::Message(Box::new(message)));
        Ok(())
    }

    fn note_message(&mut self, from: Who, to: Who, message: &Message) {
        let number = (from.node as u64) << 56 | (to.node as u64) << 48 | message.term;
        self.note(number, || {
            format!(
                "{:x} hears {:x}: term {} {}",
                message.to,
                message.from,
                message.term,
                words(&message.body)
            )
        });
    }
}

fn words(body: &Body) -> String {
    match body {
        Body::Append { index, entries, commit, .. } => {
            format!("append {} after {index}, commit {commit}", entries.len())
        }
        Body::Propose { entries } => format!("propose {}", entries.len()),
        body => format!("{body:?}"),
    }
}

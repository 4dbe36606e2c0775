//! Clients: each asks one thing at a time, of whatever member it is connected to, and gives up when that takes long.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ask::{Ask, Seen, Swap, Told};
use super::planted::Bug;
use super::queue::{Request, What};
use super::wgl::Record;
use super::world::World;
use crate::apply::command;
use crate::caller::Caller;
use crate::consensus::core::{Input, Refused};

/// Something asked and not answered yet.
#[derive(Debug)]
struct Operation {
    client: usize,
    node: usize,
    ask: Ask,
    /// The newest revision that any answer had named when it was asked.
    floor: i64,
    asked_at: u64,
    /// The one put that a healed member must take.
    last: bool,
}

/// All clients of a run.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The machine each is connected to.
    connected: Vec<usize>,
    open: BTreeMap<u64, Operation>,
    counter: u64,
    values: u64,
    /// The newest revision that any answer has named.
    seen: i64,
    /// Contents of commands that were not taken.
    not_taken: BTreeSet<u64>,
    /// Machines that have taken a put since the world was healed.
    healed: BTreeSet<usize>,
    /// What the second checker looks at.
    pub(super) records: Vec<Record>,
}

impl Clients {
    pub(super) fn new(count: usize) -> Clients {
        // One more: the administrator.
        Clients { connected: (0..=count).collect(), seen: 1, ..Clients::default() }
    }

    /// The content of what was asked, if the client still waits.
    pub(super) fn content(&self, operation: u64) -> Option<u64> {
        self.open.get(&operation)?.ask.content()
    }

    /// What was asked, if the client still waits.
    pub(super) fn ask(&self, operation: u64) -> Option<Ask> {
        self.open.get(&operation).map(|operation| operation.ask.clone())
    }

    /// Whether every machine of `nodes` has taken a put since the world was healed.
    pub(super) fn all_healed(&self, mut nodes: impl Iterator<Item = usize>) -> bool {
        nodes.all(|node| self.healed.contains(&node))
    }

    /// Commands that were not taken and took effect all the same.
    pub(super) fn not_taken(&self) -> impl Iterator<Item = u64> {
        self.not_taken.iter().copied()
    }
}

impl Clients {
    /// The history is over: what is still asked may have happened.
    pub(super) fn close(&mut self) {
        for Operation { client, ask, asked_at, .. } in std::mem::take(&mut self.open).into_values() {
            self.records.push(Record { client, ask, asked_at, answered: None });
        }
    }
}

impl World {
    /// A client asks something.
    pub(super) fn client(&mut self, client: usize) {
        let nodes = self.nodes.len();
        let mut at = self.clients.connected[client] % nodes;
        let is_admin = client == self.options.clients;
        if self.healed && !is_admin {
            let pending = |at: &usize| !self.nodes[*at].gone && !self.clients.healed.contains(at);
            let Some(next) = (0..nodes).map(|step| (client + step) % nodes).find(pending) else {
                return self.rest(client);
            };
            at = next;
        } else if self.random.one_in(20) {
            at = self.random.below(nodes as u64) as usize;
        }
        self.clients.connected[client] = at;
        let Some(who) = self.who(at) else {
            self.stats.not_sent += 1;
            self.clients.connected[client] = at + 1;
            return self.rest(client);
        };
        let ask = match (is_admin, self.healed) {
            (true, _) => self.admin_ask(),
            (false, true) => Some(self.put()),
            (false, false) => Some(self.wish()),
        };
        let Some(ask) = ask else { return self.rest(client) };
        self.stats.requests += 1;
        self.clients.counter += 1;
        let number = self.clients.counter;
        self.note(number, || format!("client {client} asks {:x} #{number}: {}", at + 1, words(&ask)));
        let (floor, asked_at, last) = (self.clients.seen, self.now, self.healed && !is_admin);
        let operation = Operation { client, node: at, ask: ask.clone(), floor, asked_at, last };
        self.clients.open.insert(number, operation);
        let us = self.up_to(self.options.delay_us);
        self.after(us, What::Request(who, Box::new(Request { operation: number, ask })));
        self.after(self.options.patience_us, What::Timeout(number));
    }

    fn rest(&mut self, client: usize) {
        let us = match client == self.options.clients {
            true => self.up_to(self.options.tick_us * 20),
            false => self.up_to(self.options.rest_us),
        };
        self.after(us, What::Client(client));
    }

    fn key(&mut self) -> Bytes {
        key(self.random.below(self.options.keys))
    }

    fn value(&mut self) -> Bytes {
        self.clients.values += 1;
        let filler = if self.random.one_in(5) { self.random.below(900) } else { self.random.below(20) };
        format!("{} {}", self.clients.values, "x".repeat(filler as usize)).into()
    }

    fn put(&mut self) -> Ask {
        let key = self.key();
        Ask::Put(key, self.value())
    }

    fn wish(&mut self) -> Ask {
        let serializable = self.random.one_in(3);
        match self.random.below(20) {
            _ if self.options.alarms && self.random.one_in(40) => Ask::Alarm(true),
            _ if self.options.alarms && self.random.one_in(12) => Ask::Alarm(false),
            0..=6 => self.put(),
            7..=8 => Ask::Delete(self.key()),
            9..=11 if self.options.transactions => self.swap(),
            12 if self.options.compactions => {
                Ask::Compact((self.clients.seen - self.random.below(60) as i64).max(1))
            }
            13 => {
                let revision = (self.clients.seen - self.random.below(40) as i64).max(1);
                Ask::Get { key: Bytes::new(), serializable, revision }
            }
            14 => Ask::Get { key: Bytes::new(), serializable, revision: 0 },
            _ => Ask::Get { key: self.key(), serializable, revision: 0 },
        }
    }

    fn swap(&mut self) -> Ask {
        let first = self.random.below(self.options.keys);
        let [guard, second, third] = [0, 1, 2].map(|step| key((first + step) % self.options.keys));
        let puts = [(guard.clone(), self.value()), (second, self.value())];
        let below = self.random.below(6) as i64;
        Ask::Swap(Box::new(Swap { guard, below, puts, third: (third, self.value()) }))
    }

    /// A request arrives at its member.
    pub(super) fn request(&mut self, at: usize, request: Request) -> Result<(), String> {
        let Request { operation, ask } = request;
        if let Ask::Change(change) = ask {
            self.request_change(at, operation, change);
            return Ok(());
        }
        let Some(command) = ask.command() else {
            if ask.is_linearizable() && !self.serves_by_itself(at) {
                self.input(at, Input::Read { ticket: operation });
                return Ok(());
            }
            return self.read(at, operation, &ask);
        };
        let id = self.next_id(at);
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        live.waiters.insert(id.serial, operation);
        if self.options.planted == Some(Bug::AckBeforeCommit) && matches!(ask, Ask::Put(..)) {
            let revision = live.applier.store().revision() + 1;
            live.waiters.remove(&id.serial);
            self.reply(operation, Told::Done(revision, Seen::Nothing));
        }
        let command = command::encode(id, &Caller::default(), command);
        self.input(at, Input::Propose { id: id.serial, command });
        Ok(())
    }

    /// With a bug planted: a member that believes it leads asks nobody.
    fn serves_by_itself(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let Some(live) = &node.live else { return false };
        let leads = live.core.standing().leader == node.id;
        match self.options.planted {
            Some(Bug::ReadIndexWithoutQuorum) => leads,
            Some(Bug::StaleLeaderAfterPause) => leads && live.resumed,
            _ => false,
        }
    }

    /// A proposal was not taken.
    pub(super) fn refused(&mut self, at: usize, serial: u64, why: Refused) {
        let Some(live) = &mut self.nodes[at].live else { return };
        let Some(operation) = live.waiters.remove(&serial) else { return };
        if why == Refused::Lost {
            // Very likely lost, and that is all that is said.
            self.stats.lost += 1;
            return self.reply(operation, Told::Unknown);
        }
        self.stats.not_taken += 1;
        // Deletes, compactions and alarms are all alike.
        if matches!(self.clients.ask(operation), Some(Ask::Put(..) | Ask::Swap(_))) {
            self.clients.not_taken.extend(self.clients.content(operation));
        }
        self.reply(operation, Told::NotTaken);
    }

    /// A client hears the outcome.
    pub(super) fn answered(&mut self, number: u64, told: Told) -> Result<(), String> {
        // One that is tired of waiting does not listen any more.
        let Some(operation) = self.clients.open.remove(&number) else { return Ok(()) };
        self.note(number, || format!("#{number} is answered: {}", told_words(&told)));
        self.check_order(&operation, &told)
            .map_err(|why| format!("#{number} ({}): {why}", words(&operation.ask)))?;
        if operation.last && matches!(told, Told::Done(..) | Told::Refused(_)) {
            self.clients.healed.insert(operation.node);
        }
        self.rest(operation.client);
        let Operation { client, ask, asked_at, .. } = operation;
        let answered = (told != Told::Unknown).then_some((self.now, told));
        self.clients.records.push(Record { client, ask, asked_at, answered });
        Ok(())
    }

    /// The order of revisions is an order of all operations; it must agree with real time.
    fn check_order(&mut self, operation: &Operation, told: &Told) -> Result<(), String> {
        let Told::Done(revision, seen) = told else {
            self.stats.refused_by_state += u64::from(matches!(told, Told::Refused(_)));
            return Ok(());
        };
        let (revision, floor) = (*revision, operation.floor);
        let content = operation.ask.content();
        let changes = match (&operation.ask, seen) {
            (Ask::Put(..) | Ask::Swap(_), _) => true,
            (Ask::Delete(_), Seen::Deleted(count)) => *count > 0,
            _ => false,
        };
        if changes && self.truth.made_by(revision) != content {
            return Err(format!("acknowledged at revision {revision}, which it did not make"));
        }
        if changes && revision <= floor {
            return Err(format!("made revision {revision}, {floor} was known before it was asked"));
        }
        if operation.ask.is_linearizable() && revision < floor && revision > 0 {
            return Err(format!("saw revision {revision}, {floor} was known before it was asked"));
        }
        match &operation.ask {
            Ask::Get { serializable: true, .. } => self.stats.serializable_reads += 1,
            Ask::Get { .. } => self.stats.reads += 1,
            Ask::Swap(_) => self.stats.transactions += 1,
            Ask::Compact(_) => self.stats.compactions += 1,
            Ask::Change(_) => self.stats.changes += 1,
            _ => self.stats.writes += 1,
        }
        self.clients.seen = self.clients.seen.max(revision);
        Ok(())
    }

    /// A client gives up: what it asked may still happen.
    pub(super) fn timed_out(&mut self, number: u64) {
        let Some(operation) = self.clients.open.remove(&number) else { return };
        self.stats.unknown += 1;
        self.note(number, || format!("#{number} is given up"));
        self.clients.connected[operation.client] = operation.node + 1;
        self.rest(operation.client);
        let Operation { client, ask, asked_at, .. } = operation;
        self.clients.records.push(Record { client, ask, asked_at, answered: None });
    }
}

fn key(number: u64) -> Bytes {
    format!("key{number:02}").into()
}

fn words(ask: &Ask) -> String {
    let text = |bytes: &Bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.split(' ').next().unwrap_or_default().to_owned()
    };
    match ask {
        Ask::Put(key, value) => format!("put {} = {}", text(key), text(value)),
        Ask::Delete(key) => format!("delete {}", text(key)),
        Ask::Get { key, serializable, revision } => {
            let how = if *serializable { " serializable" } else { "" };
            format!("get {} at {revision}{how}", if key.is_empty() { "all".into() } else { text(key) })
        }
        Ask::Swap(swap) => format!(
            "if version of {} < {} then put {} and {} = {} and {}, delete {}, else put it = {}",
            text(&swap.guard),
            swap.below,
            text(&swap.puts[0].0),
            text(&swap.puts[1].0),
            text(&swap.puts[0].1),
            text(&swap.puts[1].1),
            text(&swap.third.0),
            text(&swap.third.1),
        ),
        Ask::Compact(revision) => format!("compact to {revision}"),
        Ask::Alarm(raised) => format!("alarm {raised}"),
        Ask::Change(change) => format!("{change:?}"),
    }
}

fn told_words(told: &Told) -> String {
    match told {
        Told::Done(revision, Seen::Pairs(pairs)) => {
            let value = |pair: &ketch_proto::mvccpb::KeyValue| {
                String::from_utf8_lossy(&pair.value).split(' ').next().unwrap_or_default().to_owned()
            };
            format!("revision {revision}: [{}]", pairs.iter().map(value).collect::<Vec<_>>().join(" "))
        }
        Told::Done(revision, Seen::Branch(held, _)) => format!("revision {revision}, {held}"),
        told => format!("{told:?}"),
    }
}

//! What a member's shell does: its stations, one event at a time.

use ketch_raft::{Apply, Message, Role, StorageError};
use ketch_wal::Error as LogError;

use super::node::Syncing;
use super::planted::Bug;
use super::queue::{What, Who};
use super::world::World;
use crate::consensus::core::Input;
use crate::consensus::persist::{self, FetchJob, LogFault};

impl World {
    /// Hands something in at machine `at`, which will look at it soon.
    pub(super) fn input(&mut self, at: usize, input: Input) {
        let Some(live) = &mut self.nodes[at].live else { return };
        live.inbox.push(input);
        if std::mem::replace(&mut live.woken, true) {
            return;
        }
        let who = Who { node: at, life: live.life };
        let us = if self.random.one_in(4) { self.up_to(300) } else { 1 };
        self.after(us, What::Wake(who));
    }

    pub(super) fn tick(&mut self, at: usize) -> Result<(), String> {
        let Some(who) = self.who(at) else { return Ok(()) };
        self.after(self.nodes[at].tick_us, What::Tick(who));
        self.input(at, Input::Tick);
        Ok(())
    }

    /// One round of consensus.
    pub(super) fn wake(&mut self, at: usize) -> Result<(), String> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        live.woken = false;
        let (inbox, out) = (&mut live.inbox, &mut live.outputs);
        if let Err(fault) = live.core.handle(inbox, out) {
            return self.stopped(at, &format!("raft stopped: {fault}"));
        }
        let sent: Vec<Message> = out.send.drain(..).collect();
        live.persist.append(&mut out.persist);
        live.apply.extend(out.apply.drain(..));
        let served_early = self.options.planted == Some(Bug::FollowerServesWhileBehind);
        for (index, tickets) in out.reads.drain(..) {
            let index = if served_early { 0 } else { index };
            live.reads.extend(tickets.into_iter().map(|ticket| (index, ticket)));
        }
        let fetches: Vec<FetchJob> = out.fetch.drain(..).collect();
        let refused: Vec<_> = out.refused.drain(..).collect();
        let (purge, pin) = (out.purge.take(), std::mem::take(&mut out.pin));
        out.turned_away.drain(..).for_each(|meta| live.staging.turn_away(&meta));
        if std::mem::take(&mut out.unpin) {
            live.pinned = None;
        }
        if let Some(position) = purge {
            self.stats.purges += 1;
            if let Err(error) = live.log.wal().purge_before(position) {
                return self.stopped(at, &format!("the log is not purged: {error}"));
            }
        }
        if pin {
            self.pin(at);
        }
        self.check_leader(at)?;
        sent.into_iter().for_each(|message| self.send(at, message));
        for (serial, why) in refused {
            self.refused(at, serial, why);
        }
        for job in fetches {
            self.stats.fetches += 1;
            let us = self.up_to(self.options.sync_us);
            let Some(who) = self.who(at) else { return Ok(()) };
            self.after(us, What::Fetched(who, Box::new(job)));
        }
        self.start_sync(at)?;
        self.start_applying(at);
        self.serve_reads(at)
    }

    /// Election safety: a term has one leader.
    fn check_leader(&mut self, at: usize) -> Result<(), String> {
        let id = self.nodes[at].id;
        let Some(live) = &self.nodes[at].live else { return Ok(()) };
        if live.core.node().soft_state().role != Role::Leader {
            return Ok(());
        }
        let term = live.core.standing().term;
        match self.leaders.insert(term, id) {
            Some(leader) if leader != id => Err(format!("{leader:x} and {id:x} both lead term {term}")),
            Some(_) => Ok(()),
            None => {
                self.stats.elections += 1;
                self.end_vacancy();
                self.note(term, || format!("{id:x} leads term {term}"));
                Ok(())
            }
        }
    }

    /// One sync covers everything queued when it starts.
    fn start_sync(&mut self, at: usize) -> Result<(), String> {
        let sync_us = self.up_to(self.options.sync_us);
        let early = self.random.one_in(2);
        let node = &mut self.nodes[at];
        let stuck = node.stuck;
        let Some(live) = &mut node.live else { return Ok(()) };
        if live.syncing.is_some() || live.persist.is_empty() {
            return Ok(());
        }
        let jobs = std::mem::take(&mut live.persist);
        let us = if jobs.iter().any(|job| job.must_sync) { sync_us } else { 1 };
        live.syncing = Some(if early && !stuck {
            match live.log.persist(jobs) {
                Ok(done) => Syncing::Early(done),
                Err(fault) => return self.stopped(at, &fault.to_string()),
            }
        } else {
            Syncing::Late(jobs)
        });
        if let Some(who) = self.who(at).filter(|_| !stuck) {
            self.after(us, What::Synced(who));
        }
        Ok(())
    }

    pub(super) fn synced(&mut self, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[at];
        let stuck = node.stuck;
        let Some(live) = node.live.as_mut().filter(|_| !stuck) else { return Ok(()) };
        let done = match live.syncing.take() {
            None => return Ok(()),
            Some(Syncing::Early(done)) => done,
            Some(Syncing::Late(jobs)) => match live.log.persist(jobs) {
                Ok(done) => done,
                Err(fault) => return self.stopped(at, &fault.to_string()),
            },
        };
        let entries: usize = done.iter().map(|done| done.entries.len()).sum();
        let id = self.nodes[at].id;
        self.note(entries as u64, || format!("{id:x} has synced {entries} entries"));
        done.into_iter().for_each(|done| self.input(at, Input::Persisted(done)));
        self.start_sync(at)
    }

    pub(super) fn fetched(&mut self, at: usize, job: FetchJob) -> Result<(), String> {
        let Some(live) = &self.nodes[at].live else { return Ok(()) };
        let entries = if job.positions.is_empty() {
            Err(StorageError::Compacted)
        } else {
            match persist::fetch(live.log.wal(), &job) {
                Ok(entries) => Ok(entries),
                Err(LogFault::Wal(LogError::Purged { .. })) => Err(StorageError::Compacted),
                Err(fault) => Err(StorageError::Failed(fault.to_string())),
            }
        };
        self.input(at, Input::Fetched { token: job.token, entries });
        Ok(())
    }

    pub(super) fn start_applying(&mut self, at: usize) {
        let us = self.up_to(self.options.apply_us);
        let Some(live) = &mut self.nodes[at].live else { return };
        if live.applying > 0 || live.apply.is_empty() {
            return;
        }
        live.applying = 1 + self.random.below(live.apply.len() as u64) as usize;
        let who = Who { node: at, life: live.life };
        self.after(us, What::Applied(who));
    }

    pub(super) fn applied(&mut self, at: usize) -> Result<(), String> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let count = std::mem::take(&mut live.applying).min(live.apply.len());
        let jobs: Vec<Apply> = live.apply.drain(..count).collect();
        if self.apply(at, jobs)? {
            self.start_applying(at);
            self.serve_reads(at)?;
        }
        Ok(())
    }

    pub(super) fn upkeep(&mut self, at: usize) -> Result<(), String> {
        let us = self.options.upkeep_us / 2 + self.up_to(self.options.upkeep_us);
        let (duty, keep) = (self.random.below(4), self.options.keep);
        let ahead = self.options.planted == Some(Bug::PurgeAheadOfCheckpoint);
        let Some(who) = self.who(at) else { return Ok(()) };
        self.after(us, What::Upkeep(who));
        let node = &mut self.nodes[at];
        let stuck = node.stuck;
        let Some(live) = node.live.as_mut().filter(|_| !stuck) else { return Ok(()) };
        let step = match duty {
            0 => match live.applier.hashes().settle(|| ()) {
                Ok(_) => live.background.step(200).map(|_| ()).map_err(|fault| fault.to_string()),
                Err(error) => Err(error.to_string()),
            },
            1 => live.applier.store_mut().step(64).map(|_| ()).map_err(|fault| fault.to_string()),
            2 => live.log.wal().step(64 << 10).map(|_| ()).map_err(|fault| fault.to_string()),
            _ => Ok(()),
        };
        if let Err(fault) = step {
            return self.stopped(at, &format!("in its upkeep: {fault}"));
        }
        let store = live.applier.store();
        let durable = if ahead { store.applied().index } else { store.durable_applied().index };
        node.durable = store.durable_applied().index;
        let free = durable.saturating_sub(if ahead { 0 } else { keep });
        if duty == 3 && free > live.purged {
            live.purged = free;
            self.input(at, Input::Purge(free));
        }
        Ok(())
    }
}

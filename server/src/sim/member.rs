//! A simulated member: the cores and their queues, one station a step.

use std::path::Path;
use std::sync::Arc;

use ketch_mvcc::Background;
use ketch_proto::etcdserverpb::InternalRaftRequest;
use ketch_raft::Apply;
use ketch_wal::{Disk, SimDisk, Tail};

use super::{History, Random, Report, Trouble};
use crate::apply::command::{self, RequestId};
use crate::apply::core::{Answered, ApplyCore};
use crate::bootstrap::{self, CoreOptions, First, Founding};
use crate::caller::Caller;
use crate::cluster;
use crate::consensus::core::{Applied, ConsensusCore, Input, Outputs};
use crate::consensus::persist::{self, LogWriter, PersistJob};
use crate::datadir::{DataDir, Identity};

const MEMBER_ID: u64 = 0xbdae_9bbc;
/// Small, so that a run turns over many segments.
const SEGMENT_BYTES: u64 = 64 << 10;
/// How many entries the raft log keeps behind what is durable in the store.
const KEEP: u64 = 50;

/// A member in the middle of its work.
pub struct Member {
    core: ConsensusCore,
    log: LogWriter,
    applier: ApplyCore,
    background: Background,
    inbox: Vec<Input>,
    outputs: Outputs,
    persist: Vec<PersistJob>,
    apply: Vec<Apply>,
    /// Reads that wait for their index.
    reads: Vec<(u64, u64)>,
    boot: u64,
    counter: u64,
    purged: u64,
    _dir: DataDir,
}

impl Member {
    /// Starts the member on `disk`: founds it, or recovers it.
    ///
    /// # Errors
    /// The start error, in words.
    pub fn start(disk: &Arc<SimDisk>, random: &mut Random, report: &mut Report) -> Result<Member, Trouble> {
        let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
        let options = CoreOptions {
            election_ticks: 10,
            pre_vote: true,
            seed: random.next(),
            unsafe_no_sync: false,
            force_new_cluster: false,
            log_dir: None,
            log_segment_bytes: SEGMENT_BYTES,
            store: ketch_mvcc::Options {
                segment_bytes: SEGMENT_BYTES,
                // Small, so that watchers that are a little behind are served from the log.
                watch_window_events: 16,
                ..ketch_mvcc::Options::default()
            },
        };
        let opened = bootstrap::open(&disk, Path::new("/member"), &options, || Ok(First::New(founding())))
            .map_err(|error| stopped(format!("it does not start: {error}")))?;
        report.torn_tails += u64::from(!matches!(opened.recovery.tail, Tail::Clean));
        let background = opened.applier.store().background();
        let mut member = Member {
            core: opened.core,
            log: opened.log,
            applier: opened.applier,
            background,
            inbox: vec![Input::Tick],
            outputs: Outputs::default(),
            persist: Vec::new(),
            apply: Vec::new(),
            reads: Vec::new(),
            boot: opened.boot,
            counter: 0,
            purged: 0,
            _dir: opened.dir,
        };
        member.lead(random, report)?;
        Ok(member)
    }

    /// Proposes `request`; the history gets to know what became of it under the id returned.
    pub fn propose(&mut self, request: InternalRaftRequest) -> RequestId {
        self.counter += 1;
        let id = RequestId::new(MEMBER_ID, self.boot, self.counter);
        let command = command::encode(id, &Caller::default(), request);
        self.inbox.push(Input::Propose { id: id.serial, command });
        id
    }

    /// Asks for a linearizable read; the history checks what it sees.
    pub fn read(&mut self, ticket: u64) {
        self.inbox.push(Input::Read { ticket });
    }

    /// The store's published revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.applier.store().revision()
    }

    /// The store, to check.
    #[must_use]
    pub fn store(&self) -> &ketch_mvcc::Store {
        self.applier.store()
    }

    /// Runs one station that the seed picks.
    ///
    /// # Errors
    /// A fault of a core, or a violation that the history found.
    pub fn step(
        &mut self,
        random: &mut Random,
        history: &mut History,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        match random.below(12) {
            0 => self.inbox.push(Input::Tick),
            1..=4 => self.consensus(report)?,
            5..=7 => self.log(random)?,
            8..=10 => self.applier(random, history, report)?,
            _ => self.upkeep(random, report)?,
        }
        random.mix(self.core.standing().commit);
        self.wake_readers(history, report)
    }

    /// Runs everything until nothing is left to do.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn settle(
        &mut self,
        random: &mut Random,
        history: &mut History,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        while !(self.inbox.is_empty() && self.persist.is_empty() && self.apply.is_empty()) {
            self.consensus(report)?;
            self.log(random)?;
            self.applier(random, history, report)?;
            self.wake_readers(history, report)?;
        }
        Ok(())
    }

    /// A sole voter leads as soon as its configuration is applied.
    fn lead(&mut self, random: &mut Random, report: &mut Report) -> Result<(), Trouble> {
        let mut nobody = History::default();
        self.settle(random, &mut nobody, report)?;
        if self.core.standing().leader == MEMBER_ID {
            Ok(())
        } else {
            Err(stopped("the sole voter does not lead"))
        }
    }

    fn consensus(&mut self, report: &mut Report) -> Result<(), Trouble> {
        let (inputs, out) = (&mut self.inbox, &mut self.outputs);
        self.core.handle(inputs, out).map_err(stopped)?;
        self.persist.append(&mut out.persist);
        self.apply.append(&mut out.apply);
        out.send.clear();
        for (index, tickets) in out.reads.drain(..) {
            self.reads.extend(tickets.into_iter().map(|ticket| (index, ticket)));
        }
        for job in out.fetch.drain(..) {
            let entries = persist::fetch(self.log.wal(), &job).map_err(stopped)?;
            inputs.push(Input::Fetched { token: job.token, entries: Ok(entries) });
        }
        if let Some(position) = out.purge.take() {
            report.purges += 1;
            self.log.wal().purge_before(position).map_err(stopped)?;
        }
        match out.refused.drain(..).next() {
            Some((id, why)) => Err(stopped(format!("proposal {id:x} was refused: {why:?}"))),
            None => Ok(()),
        }
    }

    /// Persists some of what is queued, in order.
    fn log(&mut self, random: &mut Random) -> Result<(), Trouble> {
        let count = 1 + random.below(self.persist.len() as u64) as usize;
        let jobs: Vec<_> = self.persist.drain(..count.min(self.persist.len())).collect();
        let done = self.log.persist(jobs).map_err(stopped)?;
        self.inbox.extend(done.into_iter().map(Input::Persisted));
        Ok(())
    }

    /// Applies some of what is queued, in order, as one batch.
    fn applier(
        &mut self,
        random: &mut Random,
        history: &mut History,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        if self.apply.is_empty() {
            return Ok(());
        }
        let count = 1 + random.below(self.apply.len() as u64) as usize;
        let mut answers = Vec::new();
        for job in self.apply.drain(..count) {
            let mut conf_changes = Vec::new();
            self.applier.apply(job.entries, &mut answers, &mut conf_changes).map_err(stopped)?;
            let index = self.applier.applied_index();
            self.inbox.push(Input::Applied(Applied {
                token: job.token,
                index,
                conf_changes,
                snapshot: None,
            }));
        }
        self.applier.commit().map_err(stopped)?;
        for Answered { id, outcome } in answers {
            random.mix(id.serial);
            history.answered(id, &outcome, report).map_err(Trouble::Violation)?;
        }
        Ok(())
    }

    fn upkeep(&mut self, random: &mut Random, report: &mut Report) -> Result<(), Trouble> {
        match random.below(4) {
            0 => {
                self.applier.hashes().settle(|| ()).map_err(stopped)?;
                _ = self.background.step(200).map_err(stopped)?;
            }
            1 => _ = self.applier.store_mut().step(16).map_err(stopped)?,
            2 => _ = self.log.wal().step(2).map_err(stopped)?,
            _ => {
                let free = self.applier.store().durable_applied().index.saturating_sub(KEEP);
                if free > self.purged {
                    self.purged = free;
                    self.inbox.push(Input::Purge(free));
                    self.consensus(report)?;
                }
            }
        }
        Ok(())
    }

    fn wake_readers(&mut self, history: &mut History, report: &mut Report) -> Result<(), Trouble> {
        let applied = self.applier.store().applied().index;
        let store = self.applier.store();
        let mut verdict = Ok(());
        self.reads.retain(|&(index, ticket)| {
            if index > applied || verdict.is_err() {
                return true;
            }
            report.reads += 1;
            verdict = history.read(ticket, store.revision());
            false
        });
        verdict.map_err(Trouble::Violation)
    }
}

fn stopped(why: impl ToString) -> Trouble {
    Trouble::Stopped(why.to_string())
}

/// What the simulated member's cluster starts from.
pub(crate) fn founding() -> Founding {
    let member = cluster::Member {
        id: MEMBER_ID,
        peer_urls: vec!["http://sim:2380".into()],
        is_learner: false,
        name: "sim".into(),
        client_urls: Vec::new(),
    };
    Founding { identity: Identity { cluster_id: 1, member_id: MEMBER_ID }, members: vec![member] }
}

//! A random workload on a disk that fails: errors, a full disk and short writes at any operation, also during recovery; then the process is
//! killed, with a crash at every operation of the recovery that follows, or the machine crashes.
//!
//! The model is that of the crash hunt. Besides: after an error that is not poison the log is as it was, and goes on.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ketch_wal::sim::{Fault, Op, SimDisk};
use ketch_wal::{Batch, Error, OpenError, Options, SegmentId, Wal};

use crate::hunt::{Random, Row, content, replaced, rewrite};

const OPS: [Op; 12] = [
    Op::Create,
    Op::Open,
    Op::Rename,
    Op::Remove,
    Op::SyncDir,
    Op::Write,
    Op::Sync,
    Op::ZeroFill,
    Op::SetLen,
    Op::WriteBack,
    Op::Read,
    Op::List,
];

/// What one step did to the log, and what the log holds if it succeeded.
struct Step {
    outcome: Result<(), Error>,
    next: Vec<Row>,
    acknowledges: bool,
}

struct Failing {
    random: Random,
    disk: Arc<SimDisk>,
    options: Options,
    /// What the log may hold: the contents since the last acknowledgement.
    contents: Vec<Vec<Row>>,
    sealed: Vec<SegmentId>,
    counter: u32,
    /// Recoveries that were compared with the model.
    checked: u64,
}

impl Failing {
    fn new(seed: u64, zero_fill: bool) -> Failing {
        let options = Options {
            segment_bytes: 8 << 10,
            spare_segments: 1,
            zero_fill,
            write_back_bytes: 2048,
            uncached: seed.is_multiple_of(2),
            ..Options::default()
        };
        Failing {
            random: Random::from(seed),
            disk: SimDisk::new(seed),
            options,
            contents: vec![Vec::new()],
            sealed: Vec::new(),
            counter: 0,
            checked: 0,
        }
    }

    fn run(&mut self, lives: u32) -> Result<(), String> {
        for life in 0..lives {
            let named = |error: String| format!("life {life}: {error}");
            let wal = self.open_with_faults().map_err(named)?;
            self.compare(&wal).map_err(named)?;
            self.live(&wal).map_err(named)?;
            drop(wal);
            self.disk.heal();
            if self.random.below(2) == 0 {
                self.kill_and_crash_the_recovery().map_err(named)?;
            } else {
                self.disk.crash();
            }
        }
        Ok(())
    }

    fn inject(&mut self) {
        let op = OPS[self.random.below(OPS.len() as u64) as usize];
        let fault = match self.random.below(3) {
            0 => Fault::Eio,
            1 => Fault::NoSpace,
            _ => Fault::Short(self.random.below(3000) as usize),
        };
        self.disk.fail(op, self.random.below(6), fault);
    }

    fn open(&self, disk: &Arc<SimDisk>) -> Result<Wal, OpenError> {
        Wal::open(disk.clone(), Path::new("/log"), self.options.clone()).map(|opened| opened.wal)
    }

    /// Opens until it succeeds; only an error of the disk may be in the way.
    fn open_with_faults(&mut self) -> Result<Wal, String> {
        loop {
            if self.random.below(3) == 0 {
                self.inject();
            }
            match self.open(&self.disk) {
                Ok(wal) => {
                    self.disk.heal();
                    return Ok(wal);
                }
                Err(OpenError::Io { .. }) if self.random.below(2) == 0 => self.disk.crash(),
                Err(OpenError::Io { .. }) => self.disk.kill(),
                Err(error) => return Err(format!("the log is refused: {error}")),
            }
        }
    }

    /// What is found is one of the contents, and from now on the only one.
    fn compare(&mut self, wal: &Wal) -> Result<(), String> {
        let found = content(wal)?;
        let known = self.contents.contains(&found);
        self.checked += 1;
        self.contents = vec![found];
        if known {
            Ok(())
        } else {
            Err("recovered what the log never held, or not what was acknowledged".to_owned())
        }
    }

    fn live(&mut self, wal: &Wal) -> Result<(), String> {
        self.sealed.clear();
        for _ in 0..60 {
            if self.random.below(15) == 0 {
                self.inject();
            }
            let Some(step) = self.step(wal) else { continue };
            match step.outcome {
                Ok(()) => {
                    self.contents.push(step.next);
                    if step.acknowledges {
                        self.contents.drain(..self.contents.len() - 1);
                    }
                }
                // It may be there after a crash, or not.
                Err(Error::Poisoned { .. }) => {
                    self.contents.push(step.next);
                    return Ok(());
                }
                Err(Error::NotTruncatable { .. }) => {}
                Err(Error::Io { .. }) => {
                    self.disk.heal();
                    if content(wal)? != *self.now() {
                        return Err("an error that promises no change changed something".to_owned());
                    }
                }
                Err(error) => return Err(format!("an error that nothing calls for: {error}")),
            }
            if self.disk.violations() > 0 {
                return Err("bytes under a reader were overwritten".to_owned());
            }
        }
        Ok(())
    }

    fn now(&self) -> &Vec<Row> {
        self.contents.last().unwrap()
    }

    fn step(&mut self, wal: &Wal) -> Option<Step> {
        let next = self.now().clone();
        let plain = |outcome, next| Some(Step { outcome, next, acknowledges: false });
        match self.random.below(20) {
            choice @ 0..=10 => Some(self.append(wal, choice)),
            11..=12 => Some(Step { outcome: wal.sync().map(drop), next, acknowledges: true }),
            13..=15 => plain(wal.step(16 << 10).map(drop), next),
            16 => {
                let at = self.random.below(next.len() as u64) as usize;
                let outcome = wal.truncate_after(next.get(at)?.0);
                plain(outcome, next[..at].to_vec())
            }
            17 => {
                let at = next.get(self.random.below(next.len() as u64) as usize)?.0;
                let from = next.iter().position(|row| row.0.segment() == at.segment())?;
                plain(wal.purge_before(at), next[from..].to_vec())
            }
            _ => self.replace(wal, next),
        }
    }

    fn append(&mut self, wal: &Wal, choice: u64) -> Step {
        let (mut batch, mut data) = (Batch::new(), Vec::new());
        for _ in 0..1 + self.random.below(4) {
            self.counter += 1;
            let len = match self.random.below(12) {
                0 => 9000,
                1 => 2500,
                _ => self.random.below(600),
            };
            data.push([&self.counter.to_le_bytes()[..], &vec![self.counter as u8; len as usize]].concat());
            batch.push(5, &[data.last().unwrap()]);
        }
        let outcome = match choice {
            0..=4 => wal.append(&mut batch).map(drop),
            5..=8 => wal.commit(&mut batch).map(drop),
            _ => wal.seal(&mut batch).map(|sealed| self.sealed.push(sealed.id)),
        };
        let mut next = self.now().clone();
        next.extend(batch.positions().iter().zip(data).map(|(at, data)| (*at, 5, data)));
        Step { outcome, next, acknowledges: (5..=8).contains(&choice) }
    }

    fn replace(&mut self, wal: &Wal, mut next: Vec<Row>) -> Option<Step> {
        let (durable, order) = (wal.durable_upto(), wal.segments());
        let at = order.iter().position(|s| self.sealed.contains(&s.id) && s.end <= durable)?;
        let old = [order[at].id];
        let outcome = rewrite(wal, &next, &old).and_then(|(built, moved)| {
            let later: Vec<SegmentId> = order[at + 1..].iter().map(|s| s.id).collect();
            replaced(&mut next, &old, &later, moved);
            wal.replace(&old, vec![built])
        });
        Some(Step { outcome, next, acknowledges: true })
    }

    /// The next process finds what the system still holds; power may go at each operation of its recovery.
    fn kill_and_crash_the_recovery(&mut self) -> Result<(), String> {
        self.disk.kill();
        let trap = Arc::new(Mutex::new((Random::from(self.random.below(1 << 40)), Vec::new())));
        let into = Arc::clone(&trap);
        self.disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op, _: &Path| {
            if matches!(op, Op::Read | Op::Open | Op::List | Op::WriteBack) {
                return;
            }
            let (random, copies) = &mut *into.lock().unwrap();
            for style in 0..4 {
                let versions = disk.undecided().into_iter();
                let kept: Vec<u32> = match style {
                    0 => versions.map(|_| 0).collect(),
                    1 => versions.map(|n| n - 1).collect(),
                    _ => versions.map(|n| random.below(u64::from(n)) as u32).collect(),
                };
                copies.push((op, disk.crashed(&kept)));
            }
        })));
        let opened = self.open(&self.disk);
        self.disk.set_hook(None);
        let wal = opened.map_err(|error| format!("after a kill: {error}"))?;
        for (op, copy) in std::mem::take(&mut trap.lock().unwrap().1) {
            let place = |error: String| format!("power lost at {op:?} in the recovery after a kill: {error}");
            let wal = self.open(&copy).map_err(|error| place(error.to_string()))?;
            self.checked += 1;
            if !self.contents.contains(&content(&wal).map_err(place)?) {
                return Err(place("unknown content".to_owned()));
            }
        }
        self.compare(&wal)?;
        drop(wal);
        self.disk.kill();
        Ok(())
    }
}

/// One world; gives how many recoveries were compared with the model.
pub(crate) fn failing(seed: u64, zero_fill: bool, lives: u32) -> Result<u64, String> {
    let mut world = Failing::new(seed, zero_fill);
    world.run(lives).map_err(|error| format!("seed {seed} zero_fill {zero_fill}: {error}"))?;
    Ok(world.checked)
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    let mut checked = 0;
    for seed in 0..40 {
        checked += failing(seed, false, 10).unwrap() + failing(seed, true, 10).unwrap();
    }
    println!("{checked} recoveries");
    assert!(checked > 4_000, "{checked}");
}

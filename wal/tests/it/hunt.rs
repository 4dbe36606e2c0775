//! The crash hunt: a random workload on the simulated disk, crashed before every operation of the disk in every state (or
//! many) that the unsynced writes allow, recovered, and compared with a model.
//!
//! The model is the list of contents the log went through since the last acknowledgement. What is recovered must be one of
//! them: then everything acknowledged is there, batches are whole, and nothing appears that was not appended in that order.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ketch_wal::sim::{Op, SimDisk};
use ketch_wal::{Batch, BuiltSegment, Options, Position, Progress, SegmentId, Wal};

const DIR: &str = "/log";

/// One record as the model knows it.
pub(crate) type Row = (Position, u8, Vec<u8>);
type Content = Arc<Vec<Row>>;

/// What a hunt did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) states: u64,
    pub(crate) points: u64,
    pub(crate) complete_points: u64,
    /// Among the states, those of a recovery that was itself crashed.
    pub(crate) recoveries: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: Report) {
        self.states += other.states;
        self.points += other.points;
        self.complete_points += other.complete_points;
        self.recoveries += other.recoveries;
    }
}

/// What to hunt with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Steps of the workload.
    pub(crate) steps: u32,
    /// A point with at most this many crash states has all of them checked; one with more, this many at random.
    pub(crate) bound: u64,
    pub(crate) zero_fill: bool,
    /// Every so many states, the recovery is crashed at each operation of its own, and so is the recovery after that. 0 is never.
    pub(crate) again: u64,
}

pub(crate) struct Random(u64);

impl From<u64> for Random {
    fn from(seed: u64) -> Random {
        Random(seed)
    }
}

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n.max(1)
    }
}

/// Crashed copies of the disk, taken while one step of the workload ran.
#[derive(Default)]
struct Trap {
    copies: Vec<(Arc<SimDisk>, usize)>,
    /// The index of the oldest content that may be recovered.
    acknowledged: usize,
    random: u64,
    bound: u64,
    report: Report,
    last: Vec<u32>,
}

impl Trap {
    fn crash_everywhere(&mut self, disk: &SimDisk, op: Op) {
        if matches!(op, Op::Read | Op::Open | Op::List | Op::WriteBack) {
            return;
        }
        let versions = disk.undecided();
        self.report.points += 1;
        let all = versions.iter().try_fold(1u64, |all, n| all.checked_mul(u64::from(*n)));
        match all.filter(|all| *all <= self.bound) {
            Some(all) => {
                self.report.complete_points += 1;
                for mut code in 0..all {
                    let kept: Vec<u32> = versions
                        .iter()
                        .map(|n| {
                            let kept = (code % u64::from(*n)) as u32;
                            code /= u64::from(*n);
                            kept
                        })
                        .collect();
                    self.copies.push((disk.crashed(&kept), self.acknowledged));
                }
            }
            None => {
                let mut random = Random(self.random);
                for i in 0..self.bound {
                    // Everything, nothing, each single loss near the end, then mixtures.
                    let style = random.below(4);
                    let kept: Vec<u32> = versions
                        .iter()
                        .enumerate()
                        .map(|(at, n)| match (i, style) {
                            (0, _) => 0,
                            (1, _) => n - 1,
                            (_, 0) => (n - 1) * u32::from(at as u64 != i % versions.len() as u64),
                            (_, 1) => (n - 1) * u32::from(at as u64 == i % versions.len() as u64),
                            _ => random.below(u64::from(*n)) as u32,
                        })
                        .collect();
                    self.copies.push((disk.crashed(&kept), self.acknowledged));
                }
                self.random = random.0;
            }
        }
        self.last = versions;
    }
}

pub(crate) fn content(wal: &Wal) -> Result<Vec<Row>, String> {
    wal.iter(Position::START)
        .map(|record| record.map(|r| (r.position, r.kind, r.data.to_vec())).map_err(|e| e.to_string()))
        .collect()
}

/// A segment with every other record of `old`, and where these lie in it.
pub(crate) fn rewrite(
    wal: &Wal,
    rows: &[Row],
    old: &[SegmentId],
) -> Result<(BuiltSegment, Vec<Row>), ketch_wal::Error> {
    let (mut builder, mut batch, mut moved) = (wal.build_segment()?, Batch::new(), Vec::new());
    for row in rows.iter().filter(|row| old.contains(&row.0.segment())).step_by(2) {
        batch.clear();
        batch.push(row.1, &[&row.2]);
        builder.append(&mut batch)?;
        moved.push((batch.positions()[0], row.1, row.2.clone()));
    }
    Ok((builder.finish(&mut Batch::new())?, moved))
}

/// What a replacement does to the content: `moved` stands where the old segments stood, before the first record of a later one.
pub(crate) fn replaced(content: &mut Vec<Row>, old: &[SegmentId], later: &[SegmentId], moved: Vec<Row>) {
    let start = content.iter().position(|row| old.contains(&row.0.segment()));
    let start = start.or_else(|| content.iter().position(|row| later.contains(&row.0.segment())));
    let start = start.unwrap_or(content.len());
    content.retain(|row| !old.contains(&row.0.segment()));
    content.splice(start..start, moved);
}

pub(crate) struct Hunt {
    plan: Plan,
    disk: Arc<SimDisk>,
    options: Options,
    trap: Arc<Mutex<Trap>>,
    random: Random,
    contents: Vec<Content>,
    sealed: Vec<SegmentId>,
    counter: u32,
    report: Report,
}

/// Runs one hunt; an error is a bug, in words.
pub(crate) fn hunt(plan: Plan) -> Result<Report, String> {
    let disk = SimDisk::new(plan.seed);
    let random = Random(plan.seed ^ 0x5eed);
    let options = Options {
        segment_bytes: 8 << 10,
        spare_segments: 1,
        zero_fill: plan.zero_fill,
        manual_rotation: false,
        write_back_bytes: 2048,
        uncached: plan.seed.is_multiple_of(2),
        ..Options::default()
    };
    let trap = Arc::new(Mutex::new(Trap { bound: plan.bound, random: plan.seed, ..Trap::default() }));
    let mut hunt = Hunt {
        plan,
        disk,
        options,
        trap,
        random,
        contents: vec![Content::default()],
        sealed: Vec::new(),
        counter: 0,
        report: Report::default(),
    };
    hunt.run().map_err(|error| format!("seed {} zero_fill {}: {error}", plan.seed, plan.zero_fill))
}

impl Hunt {
    fn run(&mut self) -> Result<Report, String> {
        let trap = Arc::clone(&self.trap);
        self.disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op: Op, _: &Path| {
            trap.lock().unwrap().crash_everywhere(disk, op);
        })));
        let mut wal = self.open()?;
        self.check_copies()?;
        for step in 0..self.plan.steps {
            if self.random.below(12) == 0 {
                drop(wal);
                wal = self.crash_and_go_on().map_err(|e| format!("step {step}, crash: {e}"))?;
            } else {
                self.work(&wal).map_err(|e| format!("step {step}: {e}"))?;
            }
            self.check_copies().map_err(|e| format!("step {step}: {e}"))?;
            if self.disk.violations() > 0 {
                return Err(format!("step {step}: bytes under a reader were overwritten"));
            }
        }
        let trap = self.trap.lock().unwrap().report;
        self.report.points = trap.points;
        self.report.complete_points = trap.complete_points;
        Ok(self.report)
    }

    fn open(&self) -> Result<Wal, String> {
        let opened = Wal::open(self.disk.clone(), Path::new(DIR), self.options.clone());
        opened.map(|opened| opened.wal).map_err(|error| error.to_string())
    }

    fn now(&self) -> &Content {
        self.contents.last().unwrap()
    }

    fn push(&mut self, change: impl FnOnce(&mut Vec<Row>)) {
        let mut next = Vec::clone(self.now());
        change(&mut next);
        self.contents.push(Arc::new(next));
    }

    fn acknowledged(&mut self) {
        self.trap.lock().unwrap().acknowledged = self.contents.len() - 1;
    }

    /// The machine crashes for real, or only the process is killed: then what was not synced is still undecided while the trap
    /// crashes the recovery. What is recovered is where the workload goes on.
    fn crash_and_go_on(&mut self) -> Result<Wal, String> {
        if self.random.below(2) == 0 {
            self.disk.kill();
        } else {
            self.disk.crash();
        }
        let wal = self.open()?;
        let found = content(&wal)?;
        let oldest = self.trap.lock().unwrap().acknowledged;
        let Some(at) = self.contents[oldest..].iter().rposition(|content| **content == found) else {
            return Err(self.unknown(&found, oldest));
        };
        // Copies taken during this recovery may still be any content from before: keep those until they are checked.
        self.check_copies()?;
        self.contents = vec![Arc::clone(&self.contents[oldest + at])];
        self.acknowledged();
        self.sealed.retain(|id| wal.segments().iter().any(|segment| segment.id == *id && segment.sealed));
        Ok(wal)
    }

    fn work(&mut self, wal: &Wal) -> Result<(), String> {
        let fail = |e: ketch_wal::Error| e.to_string();
        match self.random.below(20) {
            0..=7 => {
                let (mut batch, rows) = self.batch();
                wal.append(&mut batch).map_err(fail)?;
                self.appended(&batch, rows);
            }
            8..=9 => {
                let (mut batch, rows) = self.batch();
                wal.commit(&mut batch).map_err(fail)?;
                self.appended(&batch, rows);
                self.acknowledged();
            }
            10..=11 => {
                wal.sync().map_err(fail)?;
                self.acknowledged();
            }
            12..=15 => {
                let held = self.hold(wal);
                for _ in 0..4 {
                    if wal.step(16 << 10).map_err(fail)? == Progress::Idle {
                        break;
                    }
                }
                if held.is_some_and(|(record, data)| record != data) {
                    return Err("bytes of a reader changed".to_owned());
                }
            }
            16 => {
                if let Some(at) = self.pick() {
                    let built = wal.segments().iter().any(|segment| segment.generation > 0);
                    match wal.truncate_after(at) {
                        Err(ketch_wal::Error::NotTruncatable { .. }) if built => return Ok(()),
                        outcome => outcome.map_err(fail)?,
                    }
                    self.push(|rows| {
                        let from = rows.iter().position(|row| row.0 == at).unwrap_or(rows.len());
                        rows.truncate(from);
                    });
                }
            }
            17 => {
                if let Some(at) = self.pick() {
                    wal.purge_before(at).map_err(fail)?;
                    self.push(|rows| {
                        let from = rows.iter().position(|row| row.0.segment() == at.segment()).unwrap_or(0);
                        rows.drain(..from);
                    });
                    self.sealed.retain(|id| wal.segments().iter().any(|segment| segment.id == *id));
                }
            }
            18 => {
                let (mut footer, rows) = self.batch();
                let info = wal.seal(&mut footer).map_err(fail)?;
                self.appended(&footer, rows);
                self.sealed.push(info.id);
            }
            _ => self.replace(wal).map_err(fail)?,
        }
        Ok(())
    }

    fn hold(&mut self, wal: &Wal) -> Option<(bytes::Bytes, Vec<u8>)> {
        let at = self.pick()?;
        let row = self.now().iter().find(|row| row.0 == at)?.2.clone();
        wal.read(at).ok().map(|record| (record.data, row))
    }

    fn pick(&mut self) -> Option<Position> {
        let rows = Arc::clone(self.now());
        let at = self.random.below(rows.len() as u64) as usize;
        rows.get(at).map(|row| row.0)
    }

    fn batch(&mut self) -> (Batch, Vec<(u8, Vec<u8>)>) {
        let (mut batch, mut rows) = (Batch::new(), Vec::new());
        let records = match self.random.below(8) {
            0 => 12,
            n => 1 + n / 3,
        };
        for _ in 0..records {
            self.counter += 1;
            let len = match self.random.below(10) {
                0 => 0,
                1 => 2500,
                2 if self.random.below(3) == 0 => 9000,
                _ => self.random.below(700),
            };
            let kind = (self.counter % 200) as u8;
            let data = [&self.counter.to_le_bytes()[..], &vec![kind; len as usize]].concat();
            batch.push(kind, &[&data]);
            rows.push((kind, data));
        }
        (batch, rows)
    }

    fn appended(&mut self, batch: &Batch, rows: Vec<(u8, Vec<u8>)>) {
        let rows = batch.positions().iter().zip(rows).map(|(at, (kind, data))| (*at, kind, data));
        self.push(|content| content.extend(rows));
    }

    /// Rewrites one or two sealed neighbours, dropping every other record.
    fn replace(&mut self, wal: &Wal) -> Result<(), ketch_wal::Error> {
        let durable = wal.durable_upto();
        let order = wal.segments();
        let Some(at) = order.iter().position(|s| self.sealed.contains(&s.id) && s.end <= durable) else {
            return Ok(());
        };
        let mut old = vec![order[at].id];
        if order.get(at + 1).is_some_and(|s| self.sealed.contains(&s.id) && s.end <= durable) {
            old.push(order[at + 1].id);
        }
        let (built, moved) = rewrite(wal, self.now(), &old)?;
        wal.replace(&old, vec![built])?;
        self.sealed.retain(|id| !old.contains(id));
        let later: Vec<SegmentId> = order[at + old.len()..].iter().map(|s| s.id).collect();
        self.push(|content| replaced(content, &old, &later, moved));
        // It is durable when it returns, and so is everything before it.
        self.acknowledged();
        Ok(())
    }

    fn unknown(&self, found: &[Row], oldest: usize) -> String {
        let short = |rows: &[Row]| -> Vec<String> {
            rows.iter().map(|(at, kind, data)| format!("{at} k{kind} {}B", data.len())).collect()
        };
        let expected: Vec<_> = self.contents[oldest..].iter().map(|rows| short(rows)).collect();
        format!("recovered {:?}, expected one of {expected:?}", short(found))
    }

    fn check_copies(&mut self) -> Result<(), String> {
        let copies = std::mem::take(&mut self.trap.lock().unwrap().copies);
        for (i, (disk, oldest)) in copies.into_iter().enumerate() {
            self.report.states += 1;
            if self.plan.again > 0 && self.report.states.is_multiple_of(self.plan.again) {
                self.crash_recovery(&disk.crashed(&[]), oldest, 2)
                    .map_err(|e| format!("crash state {i}: {e}"))?;
            }
            self.check(&disk, oldest, i).map_err(|e| format!("crash state {i}: {e}"))?;
        }
        Ok(())
    }

    /// Recovers while power may go at each operation; what that leaves is recovered in the same way, `depth` times in all.
    fn crash_recovery(&mut self, disk: &Arc<SimDisk>, oldest: usize, depth: u32) -> Result<(), String> {
        let copies = Arc::new(Mutex::new(Vec::new()));
        let (into, random) = (Arc::clone(&copies), Mutex::new(Random(self.report.states)));
        disk.set_hook(Some(Arc::new(move |disk: &SimDisk, op: Op, _: &Path| {
            if matches!(op, Op::Read | Op::Open | Op::List | Op::WriteBack) {
                return;
            }
            let versions = disk.undecided();
            for style in 0..4 {
                let mut random = random.lock().unwrap();
                let kept: Vec<u32> = versions
                    .iter()
                    .map(|n| match style {
                        0 => 0,
                        1 => n - 1,
                        _ => random.below(u64::from(*n)) as u32,
                    })
                    .collect();
                into.lock().unwrap().push((op, disk.crashed(&kept)));
            }
        })));
        let opened = Wal::open(disk.clone(), Path::new(DIR), self.options.clone());
        disk.set_hook(None);
        let found = content(&opened.map_err(|error| error.to_string())?.wal)?;
        if !self.contents[oldest..].iter().any(|content| **content == found) {
            return Err(self.unknown(&found, oldest));
        }
        let copies = std::mem::take(&mut *copies.lock().unwrap());
        for (op, copy) in copies {
            self.report.states += 1;
            self.report.recoveries += 1;
            let outcome = match depth {
                0 | 1 => self.check(&copy, oldest, 0),
                _ => self.crash_recovery(&copy, oldest, depth - 1),
            };
            outcome.map_err(|error| format!("power lost at {op:?} of its recovery: {error}"))?;
        }
        Ok(())
    }

    fn check(&self, disk: &Arc<SimDisk>, oldest: usize, i: usize) -> Result<(), String> {
        let open = || {
            let opened = Wal::open(disk.clone(), Path::new(DIR), self.options.clone());
            opened.map(|opened| opened.wal).map_err(|error| error.to_string())
        };
        let wal = open()?;
        let mut found = content(&wal)?;
        if !self.contents[oldest..].iter().rev().any(|content| **content == found) {
            return Err(self.unknown(&found, oldest));
        }
        if i.is_multiple_of(8) {
            let mut batch = Batch::new();
            batch.push(3, &[b"the log goes on"]);
            let at = wal.commit(&mut batch).map_err(|e| e.to_string())?.first;
            found.push((at, 3, b"the log goes on".to_vec()));
            drop(wal);
            disk.crash();
            if content(&open()?)? != found {
                return Err("after a recovery, a committed record was lost or others came back".to_owned());
            }
        }
        Ok(())
    }
}

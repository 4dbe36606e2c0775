//! What a crash of the machine, or a bad disk, leaves behind.
//!
//! * A tail of the raft log that was written but never synced may be lost at any byte: the member starts and
//!   has everything that it acknowledged before.
//! * A flipped bit in what must have been synced is damage: the member says so and does not serve. Where the log alone cannot
//!   know, the store does, and nothing is cut before it was asked.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::harness::process::{Instance, READY, copy_dir};
use crate::harness::programs;
use crate::harness::random::{Random, number_from_env};

use super::check::check;
use super::history::{Ask, Event, History};
use super::life::{End, Plan, connect, live, see, send};

/// Places at which the tail is cut, and bits that are flipped.
const CUTS: u64 = 12;
const FLIPS: u64 = 24;

/// A killed member and what its clients know.
struct Dead {
    dir: tempfile::TempDir,
    server: Instance,
    history: History,
    random: Random,
    runtime: Runtime,
}

impl Dead {
    /// A member that died after so many acknowledged requests.
    fn after(answers: u64) -> Dead {
        let seed = number_from_env("KETCH_SEED", 1);
        println!("KETCH_SEED={seed}");
        let dir = tempfile::tempdir().unwrap();
        let server = Instance::new(programs::ketch(), dir.path().join("data"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut dead = Dead { dir, server, history: History::default(), random: Random::new(seed), runtime };
        dead.live(answers);
        dead
    }

    /// One more life of the same member.
    fn live(&mut self, answers: u64) {
        let process = self.server.start();
        let plan = Plan { answers, end: End::Kill, compact: false };
        self.runtime.block_on(async {
            check(&mut connect(&self.server).await, &mut self.history, &mut self.random).await;
            let (events, sights) = live(&self.server, process, &mut self.random, plan).await;
            self.history.record(events);
            self.history.sights = sights;
        });
    }

    /// A life of one put, which is answered before the end: the last thing in the log.
    fn last_words(&mut self) {
        let process = self.server.start();
        let ask = Ask::Put { key: "w0/00".into(), value: "the last".into() };
        self.runtime.block_on(async {
            let mut client = connect(&self.server).await;
            check(&mut client, &mut self.history, &mut self.random).await;
            let revision = Some(send(&mut client, &ask).await.unwrap());
            self.history.record(vec![Event { ask, revision }]);
        });
        process.kill();
    }

    /// Puts the data back as they were.
    fn restore(&self, intact: &Path) {
        fs::remove_dir_all(&self.server.data_dir).unwrap();
        copy_dir(intact, &self.server.data_dir);
    }

    /// The member in another directory shows one of its own pasts, not before `history`.
    fn must_be_a_past(&mut self, data_dir: &Path, history: &History, what: &str) {
        let mut server = Instance::new(programs::ketch(), data_dir);
        server.flags.clone_from(&self.server.flags);
        let _process = server.start();
        self.runtime.block_on(async {
            let found = see(&mut connect(&server).await, 0).await.unwrap();
            assert!(found.revision >= history.highest, "{what}: revision {}", found.revision);
            let expected = see(&mut connect(&self.server).await, found.revision).await.unwrap();
            assert_eq!(found.keys, expected.keys, "{what}: revision {}", found.revision);
        });
    }

    /// The log is damaged at this byte: the member says so and ends.
    fn must_refuse(&self, at: usize) {
        let mut process = self.server.spawn();
        assert!(!process.await_line(READY), "byte {at}: it serves: {}", process.log());
        assert_eq!(process.wait().code(), Some(1), "byte {at}: {}", process.log());
        assert!(!process.log().contains("panicked"), "byte {at}: {}", process.log());
        assert!(
            process.log().contains("is damaged at offset"),
            "byte {at}, no reason given: {}",
            process.log()
        );
    }

    /// The member where it is; everything that it knows must be there.
    fn must_start_in_place(&mut self) {
        let (data_dir, history) = (self.server.data_dir.clone(), self.history.clone());
        self.must_start(&data_dir, &history);
    }

    /// The member in another directory; everything that `history` knows must be there.
    fn must_start(&mut self, data_dir: &Path, history: &History) {
        let server = Instance { data_dir: data_dir.to_owned(), ..self.server.clone() };
        let _process = server.start();
        let mut history = history.clone();
        self.runtime.block_on(async {
            check(&mut connect(&server).await, &mut history, &mut self.random).await;
        });
    }
}

#[test]
fn an_unsynced_tail_may_end_anywhere() {
    if !programs::is_ketch() {
        return;
    }
    let mut dead = Dead::after(120);
    let (early, late) = (dead.dir.path().join("early"), dead.dir.path().join("late"));
    copy_dir(&dead.server.data_dir, &early);
    let history = dead.history.clone();
    dead.live(60);
    copy_dir(&dead.server.data_dir, &late);
    // As if nothing of the second life had been synced: its log is cut, and the store, which is never ahead of
    // the log, is still what it was. The member that lost nothing tells what each revision must look like.
    let _whole = dead.server.start();
    let segment = written_segment(&late.join("log"));
    let name = segment.file_name().unwrap().to_owned();
    let (before, after) = (fs::read(early.join("log").join(&name)).unwrap(), fs::read(&segment).unwrap());
    let start = before.iter().zip(&after).position(|(one, other)| one != other).unwrap();
    let end = written_len(&after);
    assert!(start >= written_len(&before), "the second life rewrote what the first had written");
    for number in 0..CUTS {
        let cut = start + usize::try_from(dead.random.next() % (end - start) as u64).unwrap();
        let dir = dead.dir.path().join(format!("cut{number}"));
        copy_dir(&late, &dir);
        fs::remove_dir_all(dir.join("store")).unwrap();
        copy_dir(&early.join("store"), &dir.join("store"));
        let log = OpenOptions::new().write(true).open(dir.join("log").join(&name)).unwrap();
        log.write_all_at(&vec![0; end - cut], cut as u64).unwrap();
        dead.must_be_a_past(&dir, &history, &format!("log written from {start} to {end}, cut at {cut}"));
    }
}

#[test]
fn a_flipped_bit_in_the_log_is_refused() {
    if !programs::is_ketch() {
        return;
    }
    let mut dead = Dead::after(150);
    dead.live(50);
    let segment = written_segment(&dead.server.data_dir.join("log"));
    let bytes = fs::read(&segment).unwrap();
    // Where the log itself proves that everything was durable: up to one of the last batches, which may be long.
    let end = proven(&dead.server.data_dir.join("log"));
    for _ in 0..FLIPS {
        let at = usize::try_from(dead.random.next() % end as u64).unwrap();
        let flipped = bytes[at] ^ (1 << dead.random.between(0, 7));
        set_byte(&segment, at, flipped);
        dead.must_refuse(at);
        set_byte(&segment, at, bytes[at]);
    }
    // A refusal has changed nothing.
    dead.must_start_in_place();
}

/// Behind the last proof a flip cannot be told from a write that was lost, by the log. The store has applied what was acknowledged, so
/// the member knows better: it either has everything or refuses, and then the log is as it was.
#[test]
fn a_flipped_bit_in_the_last_batches_loses_nothing() {
    if !programs::is_ketch() {
        return;
    }
    let mut dead = Dead::after(150);
    dead.last_words();
    let intact = dead.dir.path().join("intact");
    copy_dir(&dead.server.data_dir, &intact);
    let log = dead.server.data_dir.join("log");
    let segment = written_segment(&log);
    let bytes = fs::read(&segment).unwrap();
    let (from, end) = (proven(&log), written_len(&bytes));
    let mut refused = 0;
    for _ in 0..FLIPS {
        let at = from + usize::try_from(dead.random.next() % (end - from) as u64).unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << dead.random.between(0, 7);
        set_byte(&segment, at, flipped[at]);
        let mut process = dead.server.spawn();
        if process.await_line(READY) {
            process.kill();
            dead.restore(&intact);
            set_byte(&segment, at, flipped[at]);
            dead.must_start_in_place();
            dead.restore(&intact);
            continue;
        }
        assert_eq!(process.wait().code(), Some(1), "byte {at}: {}", process.log());
        assert!(process.log().contains("the member must not serve"), "byte {at}: {}", process.log());
        assert!(fs::read(&segment).unwrap() == flipped, "byte {at}: a refusal changed the log");
        set_byte(&segment, at, bytes[at]);
        refused += 1;
    }
    assert!(refused > 0, "no flip between {from} and {end} hit what the store had applied");
    dead.must_start_in_place();
}

#[test]
fn a_flipped_bit_in_the_store_is_never_served() {
    if !programs::is_ketch() {
        return;
    }
    let mut dead = Dead::after(150);
    // A life that ends in order syncs the store.
    let mut process = dead.server.start();
    dead.runtime.block_on(async {
        check(&mut connect(&dead.server).await, &mut dead.history, &mut dead.random).await;
    });
    process.signal("TERM");
    process.wait();
    let intact = dead.dir.path().join("intact");
    copy_dir(&dead.server.data_dir, &intact);
    let mut files: Vec<PathBuf> = files(&dead.server.data_dir.join("store"));
    files.retain(|file| fs::metadata(file).unwrap().len() > 0);
    for _ in 0..FLIPS {
        let file = &files[usize::try_from(dead.random.next() % files.len() as u64).unwrap()];
        let bytes = fs::read(file).unwrap();
        let written = written_len(&bytes).max(1);
        let at = usize::try_from(dead.random.next() % written as u64).unwrap();
        set_byte(file, at, bytes[at] ^ (1 << dead.random.between(0, 7)));
        let mut process = dead.server.spawn();
        if process.await_line(READY) {
            // It serves: what it shows is right, or it fails.
            dead.runtime.block_on(async {
                if let Ok(sight) = see(&mut connect(&dead.server).await, 0).await {
                    assert_eq!(sight.keys, dead.history.keys, "{}, byte {at}", file.display());
                }
            });
            process.kill();
        } else {
            assert_eq!(process.wait().code(), Some(1), "{}", process.log());
        }
        dead.restore(&intact);
    }
}

#[test]
fn damaged_small_files_are_named() {
    if !programs::is_ketch() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::new(programs::ketch(), dir.path().join("data"));
    server.start().kill();
    for name in ["KETCH", "identity", "boot"] {
        let path = server.data_dir.join(name);
        let intact = fs::read(&path).unwrap();
        for at in [0, intact.len() / 2, intact.len() - 1] {
            let mut bytes = intact.clone();
            bytes[at] ^= 4;
            fs::write(&path, bytes).unwrap();
            crate::process::refusal(&server).assert_clear(&["data", name]);
        }
        fs::write(&path, intact).unwrap();
    }
    server.start();
}

/// The one segment of the log that has been written to; spares hold zeroes only.
fn written_segment(log: &Path) -> PathBuf {
    let written: Vec<PathBuf> =
        files(log).into_iter().filter(|path| written_len(&fs::read(path).unwrap()) > 4096).collect();
    assert_eq!(written.len(), 1, "a small log has one written segment: {written:?}");
    written[0].clone()
}

/// The offset in that segment up to which the log itself says that it was durable.
fn proven(log: &Path) -> usize {
    let options = ketch_wal::Options { read_only: true, ..ketch_wal::Options::default() };
    let opened = ketch_wal::Wal::open(Arc::new(ketch_wal::RealDisk), log, options).unwrap();
    usize::try_from(opened.recovery.known_durable.offset()).unwrap()
}

fn set_byte(file: &Path, at: usize, byte: u8) {
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[byte], at as u64).unwrap();
}

/// Up to the last byte that is not zero.
fn written_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// All files below a folder, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

//! Watchers that lose their members again and again and go on at the next one.
//!
//! Checked as it comes: revisions grow (ordered, unique), a revision comes in one response (atomic), nothing comes again or is
//! passed over after a progress notice (bookmarkable). Against the truth at the end: nothing is missing (reliable, resumable).

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use ketch_proto::etcdserverpb::watch_create_request::FilterType;
use ketch_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use ketch_proto::mvccpb::Event;
use ketch_proto::mvccpb::event::EventType;
use tokio::time::timeout;

use crate::harness::watch::{WatchStream, create, progress};
use crate::members::channel;
use crate::truth::Truth;

/// A watcher that hears nothing for so long asks how far it is.
const QUIET: Duration = Duration::from_millis(300);
/// One that was left without an answer so often goes elsewhere.
const QUIET_MAX: u32 = 6;

/// Names and addresses of the members that clients use.
pub(crate) type Targets = Arc<RwLock<Vec<(String, String)>>>;

/// What a watcher asks for; previous key-values always.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
    pub(crate) filter: Option<FilterType>,
}

impl Wants {
    /// Everything there is.
    pub(crate) fn all() -> Wants {
        Wants { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), filter: None }
    }

    fn has(&self, event: &Event) -> bool {
        let key = event.kv.as_ref().map(|kv| kv.key.clone()).unwrap_or_default();
        let in_range = match &self.range_end[..] {
            [] => key == self.key,
            [0] => key >= self.key,
            end => key >= self.key && &key[..] < end,
        };
        let kind = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        in_range && self.filter != Some(kind)
    }
}

/// What a watcher was told.
#[derive(Debug)]
pub(crate) struct Log {
    /// The first revision of which it may not have seen everything.
    pub(crate) next: i64,
    /// By revision, since the truth took them.
    pub(crate) events: Vec<(i64, Vec<Event>)>,
    pub(crate) resumed: u64,
    pub(crate) bookmarks: u64,
    /// What was wrong.
    pub(crate) violation: Option<String>,
}

/// One watcher.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) wants: Wants,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl Watcher {
    /// Begins at the second revision, at the member `home`; ends when it is `over`.
    pub(crate) fn start(wants: Wants, home: usize, targets: Targets, over: Arc<AtomicBool>) -> Watcher {
        let log = Log { next: 2, events: Vec::new(), resumed: 0, bookmarks: 0, violation: None };
        let log = Arc::new(Mutex::new(log));
        let watcher = Watcher { wants: wants.clone(), log: Arc::clone(&log) };
        tokio::spawn(async move {
            let mut at = home;
            while !over.load(SeqCst) {
                let url = {
                    let targets = targets.read().unwrap();
                    targets[at % targets.len()].1.clone()
                };
                if let Err(why) = stream(&url, &wants, &log, &over).await {
                    log.lock().unwrap().violation = Some(format!("{wants:?} at {url}: {why}"));
                    return;
                }
                log.lock().unwrap().resumed += 1;
                at += 1;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        watcher
    }

    /// Compares what it was told up to the truth's latest revision, and forgets it.
    pub(crate) fn compare(&self, truth: &Truth) -> Result<(), String> {
        let events = self.take(truth.latest());
        let wanted = truth.events.iter().map(|(revision, events)| {
            (*revision, events.iter().filter(|event| self.wants.has(event)).cloned().collect::<Vec<Event>>())
        });
        let mut wanted = wanted.filter(|(_, events)| !events.is_empty());
        let mut told = events.into_iter();
        loop {
            match (told.next(), wanted.next()) {
                (None, None) => return Ok(()),
                (told, wanted) if told == wanted => {}
                (told, wanted) => {
                    return Err(format!("{:?} was told {told:?}, what happened is {wanted:?}", self.wants));
                }
            }
        }
    }

    /// What it was told up to `latest`.
    pub(crate) fn take(&self, latest: i64) -> Vec<(i64, Vec<Event>)> {
        let mut log = self.log.lock().unwrap();
        let upto = log.events.partition_point(|(revision, _)| *revision <= latest);
        log.events.drain(..upto).collect()
    }
}

/// One stream, until it ends or says nothing any more.
///
/// # Errors
/// A guarantee that does not hold.
async fn stream(url: &str, wants: &Wants, log: &Mutex<Log>, over: &AtomicBool) -> Result<(), String> {
    let request = WatchCreateRequest {
        key: wants.key.clone(),
        range_end: wants.range_end.clone(),
        start_revision: log.lock().unwrap().next,
        filters: wants.filter.iter().map(|&filter| filter.into()).collect(),
        prev_kv: true,
        ..Default::default()
    };
    let opened = timeout(QUIET * QUIET_MAX, WatchStream::open(channel(url), create(request))).await;
    let Ok(Ok(mut stream)) = opened else { return Ok(()) };
    let mut quiet = 0;
    while quiet < QUIET_MAX && !over.load(SeqCst) {
        match timeout(QUIET, stream.next()).await {
            Ok(Ok(response)) if response.canceled && response.compact_revision == 0 => return Ok(()),
            Ok(Ok(response)) => heard(response, &mut log.lock().unwrap())?,
            Ok(Err(_gone)) => return Ok(()),
            Err(_quiet) => {
                quiet += 1;
                stream.send(progress());
                continue;
            }
        }
        quiet = 0;
    }
    Ok(())
}

fn heard(response: WatchResponse, log: &mut Log) -> Result<(), String> {
    if response.compact_revision > 0 {
        return Err(format!("compacted at {}, it wanted {}", response.compact_revision, log.next));
    }
    if response.created {
        return Ok(());
    }
    if response.events.is_empty() {
        let revision = response.header.unwrap_or_default().revision;
        log.next = log.next.max(revision + 1);
        log.bookmarks += 1;
        return Ok(());
    }
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    for of_one in response.events.chunk_by(|a, b| revision(a) == revision(b)) {
        let at = revision(&of_one[0]);
        if at < log.next {
            return Err(format!("revision {at} came after {}: {of_one:?}", log.next - 1));
        }
        log.next = at + 1;
        log.events.push((at, of_one.to_vec()));
    }
    Ok(())
}

//! Snapshots over the bulk lane: whole, cut off and resumed, refused.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ketch_mvcc::{Applied, Options, Store};
use ketch_raft::{Body, ConfState, Message, SnapshotMeta};
use ketch_server::staging::Pinned;
use ketch_wal::RealDisk;

use super::world::{End, Place, heartbeat};

/// A store of about `mib` MiB.
fn store(dir: &Path, mib: usize) -> Store {
    let mut store = Store::open(Arc::new(RealDisk), dir, Options::default()).unwrap();
    let mut value = vec![0; 16 << 10];
    for n in 0..mib * 64 {
        value.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + n * 17) as u8);
        store.txn().put(format!("key{n}").as_bytes(), &value, 0).unwrap();
    }
    store.commit(Applied { index: 900, term: 3 }).unwrap();
    store
}

fn pinned(store: &Store) -> Pinned {
    let conf_state = ConfState { voters: vec![1, 2], ..ConfState::default() };
    let Applied { index, term } = store.applied();
    Pinned { meta: SnapshotMeta { index, term, conf_state }, view: store.reader().view() }
}

fn message(pinned: &Pinned) -> Message {
    Message { from: 1, to: 2, term: 4, body: Body::Snapshot { meta: pinned.meta.clone() } }
}

fn arrived(end: &End, sent: &Message) {
    end.inbox.until("the snapshot's message", |given| given.messages.contains(sent).then_some(()));
}

fn report(end: &End) -> bool {
    end.inbox.until("the report", |given| given.snapshots.pop()).1
}

#[test]
fn a_snapshot_is_staged_before_its_message_comes() {
    let (a, b, dir) = (Place::new(1), Place::new(2), tempfile::tempdir().unwrap());
    let (one, two) = (End::start(&a), End::start(&b));
    one.knows(&[&b]);
    two.knows(&[&a]);
    let store = store(dir.path(), 3);
    let pinned = pinned(&store);
    let sent = message(&pinned);
    one.network.send(std::slice::from_ref(&sent), Some(&pinned));
    arrived(&two, &sent);
    assert!(report(&one));
    let staged = two.staging.install(&pinned.meta).unwrap().expect("a staged store");
    assert_eq!(staged.reader().view().hash(0).unwrap(), pinned.view.hash(0).unwrap());
    assert_eq!(one.metrics.peers.of(1, 2).snapshot_send.duration.count(), 1);
    assert_eq!(two.metrics.peers.of(2, 1).snapshot_receive.duration.count(), 1);
    assert_eq!((two.metrics.snapshot_save.count(), two.metrics.snapshot_sync.count()), (1, 1));
    one.kill();
    two.kill();
}

#[test]
fn a_snapshot_that_was_cut_off_goes_on_where_it_was() {
    let (a, b, dir) = (Place::new(1), Place::new(2), tempfile::tempdir().unwrap());
    let (one, two) = (End::start(&a), End::start(&b));
    let proxy = Proxy::before(&b, 5 << 20);
    one.knows(&[&Place { url: proxy.url.clone(), ..b.clone() }]);
    two.knows(&[&a]);
    let store = store(dir.path(), 8);
    let pinned = pinned(&store);
    let sent = message(&pinned);
    one.network.send(std::slice::from_ref(&sent), Some(&pinned));
    arrived(&two, &sent);
    assert!(report(&one));
    let staged = two.staging.install(&pinned.meta).unwrap().expect("a staged store");
    assert_eq!(staged.reader().view().hash(0).unwrap(), pinned.view.hash(0).unwrap());
    let passed = proxy.passed.load(Ordering::SeqCst);
    assert!(passed < 13 << 20, "{passed} bytes for 8 MiB cut at 5: not resumed");
    one.kill();
    two.kill();
}

/// The first sender is gone for good: another one, whose state is the same, sends what is missing.
#[test]
fn another_member_with_the_same_state_goes_on_where_the_first_was_cut_off() {
    let (a, b, c) = (Place::new(1), Place::new(2), Place::new(3));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two, three) = (End::start(&a), End::start(&b), End::start(&c));
    let proxy = Proxy::before(&b, 10 << 20);
    one.knows(&[&Place { url: proxy.url.clone(), ..b.clone() }]);
    two.knows(&[&a, &c]);
    three.knows(&[&b]);
    let [first, second] = [0, 1].map(|at| store(dirs[at].path(), 20));
    let (before, after) = (pinned(&first), pinned(&second));
    one.network.send(&[message(&before)], Some(&before));
    while proxy.passed.load(Ordering::SeqCst) < 10 << 20 {
        std::thread::yield_now();
    }
    one.kill();
    let sent = Message { from: 3, ..message(&after) };
    // Busy until it has noticed that the first one is gone: raft asks again.
    loop {
        three.network.send(std::slice::from_ref(&sent), Some(&after));
        if report(&three) {
            break;
        }
    }
    arrived(&two, &sent);
    let staged = two.staging.install(&after.meta).unwrap().expect("a staged store");
    assert_eq!(staged.reader().view().hash(0).unwrap(), before.view.hash(0).unwrap());
    let bytes = three.metrics.peers.of(3, 2).sent_bytes.get();
    // What was under way when the first one was cut off is lost: a window's bytes.
    assert!(bytes < 17 << 20, "{bytes} bytes for what was left of 20 MiB");
    two.kill();
    three.kill();
}

#[test]
fn a_snapshot_that_cannot_go_is_reported() {
    let (a, b, dir) = (Place::new(1), Place::new(2), tempfile::tempdir().unwrap());
    let one = End::start(&a);
    one.knows(&[&b]);
    let store = store(dir.path(), 0);
    let pinned = pinned(&store);
    // Nobody listens; and no view is pinned.
    for view in [Some(&pinned), None] {
        one.network.send(&[message(&pinned)], view);
        assert!(!report(&one));
    }
    one.kill();
}

#[test]
fn messages_pass_a_snapshot() {
    let (a, b, dir) = (Place::new(1), Place::new(2), tempfile::tempdir().unwrap());
    let (one, two) = (End::start(&a), End::start(&b));
    one.knows(&[&b]);
    two.knows(&[&a]);
    one.reaches(&two);
    let store = store(dir.path(), 8);
    let pinned = pinned(&store);
    let sent = message(&pinned);
    one.network.send(&[sent.clone(), heartbeat(1, 2, 1)], Some(&pinned));
    two.inbox.until("the heartbeat and the snapshot", |given| {
        let at = |wanted: &Message| given.messages.iter().position(|message| message == wanted);
        let (heartbeat, snapshot) = (at(&heartbeat(1, 2, 1))?, at(&sent)?);
        assert!(heartbeat < snapshot);
        Some(())
    });
    one.kill();
    two.kill();
}

/// Passes connections on and cuts the first one that has carried `limit` bytes.
struct Proxy {
    url: String,
    /// Bytes that have passed.
    passed: Arc<AtomicUsize>,
}

impl Proxy {
    fn before(place: &Place, limit: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let passed = Arc::new(AtomicUsize::new(0));
        let (target, count) = (place.url.trim_start_matches("http://").to_owned(), Arc::clone(&passed));
        let cuts = Arc::new(AtomicUsize::new(1));
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&target).unwrap());
                let (back, to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || pass(back, to, usize::MAX, None));
                let (count, cuts) = (Arc::clone(&count), Arc::clone(&cuts));
                std::thread::spawn(move || pass(near, far, limit, Some((&count, &cuts))));
            }
        });
        Proxy { url, passed }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, limit: usize, watch: Option<(&AtomicUsize, &AtomicUsize)>) {
    let (mut bytes, mut total) = (vec![0; 64 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
        total += count;
        let Some((passed, cuts)) = watch else { continue };
        passed.fetch_add(count, Ordering::SeqCst);
        let taken = total > limit
            && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if taken {
            break;
        }
    }
    for stream in [from, to] {
        let _closed_before = stream.shutdown(Shutdown::Both);
    }
}

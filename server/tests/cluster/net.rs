//! The network between members: in front of each peer port a small proxy that the test owns.
//!
//! Members advertise their proxy. The first thing said on a connection is an HTTP request whose `X-PeerURLs` names the caller's
//! own advertised URL, so each connection belongs to a directed pair `(from, to)`. Members send only on connections that they
//! have opened: to cut `a → b` takes what `a` says to `b` and leaves what `b` says to `a`. Questions over the plain paths name
//! nobody; they end when `to` is cut from all.

use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::ports;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As fast as it goes.
    Open,
    /// Each piece comes later by so much.
    Slow(Duration),
    /// Nothing comes through, and nobody is told.
    Silent,
    /// Connections end, and new ones are closed at once.
    Cut,
}

/// Nobody in particular: a caller that does not say who it is.
const ANYBODY: u16 = 0;

/// A directed pair.
#[derive(Clone, Debug)]
struct Link {
    mode: watch::Sender<Mode>,
    /// What its callers have said.
    bytes: Arc<AtomicU64>,
}

type Links = Mutex<HashMap<(u16, u16), Link>>;

/// All links, by the ports that members advertise, and the thread that carries what passes.
#[derive(Debug)]
pub(crate) struct Net {
    links: Arc<Links>,
    /// Taken only to end it.
    runtime: Option<Runtime>,
}

impl Net {
    pub(crate) fn new() -> Net {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxies")
            .enable_all()
            .build()
            .unwrap();
        Net { links: Arc::default(), runtime: Some(runtime) }
    }

    /// The port of a proxy: whoever connects to it talks to `back`.
    pub(crate) fn proxy(&self, back: u16) -> u16 {
        // Somebody else may be faster.
        let listener = std::iter::repeat_with(|| StdListener::bind(("127.0.0.1", ports::free())));
        let listener = listener.flatten().next().unwrap();
        listener.set_nonblocking(true).unwrap();
        let front = listener.local_addr().unwrap().port();
        let links = Arc::clone(&self.links);
        self.runtime.as_ref().unwrap().spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(carry(Arc::clone(&links), caller, front, back));
            }
        });
        front
    }

    /// What `from` says to `to`.
    pub(crate) fn set(&self, from: u16, to: u16, mode: Mode) {
        link(&self.links, from, to).mode.send_replace(mode);
    }

    /// Bytes that `from` has sent to `to` on connections that it opened.
    pub(crate) fn carried(&self, from: u16, to: u16) -> u64 {
        link(&self.links, from, to).bytes.load(Relaxed)
    }

    /// What `one` and the `others` say to each other.
    pub(crate) fn between(&self, one: u16, others: &[u16], mode: Mode) {
        for &other in others {
            self.set(one, other, mode);
            self.set(other, one, mode);
        }
        self.set(ANYBODY, one, mode);
    }

    /// Every link is open again.
    pub(crate) fn heal(&self) {
        for link in self.links.lock().unwrap().values() {
            link.mode.send_replace(Mode::Open);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Not waited for: that is not allowed where tests run.
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn link(links: &Links, from: u16, to: u16) -> Link {
    let new = || Link { mode: watch::Sender::new(Mode::Open), bytes: Arc::default() };
    links.lock().unwrap().entry((from, to)).or_insert_with(new).clone()
}

/// One connection, to its end.
async fn carry(links: Arc<Links>, mut caller: TcpStream, front: u16, back: u16) {
    let Some(head) = head(&mut caller).await else { return };
    let (from, to) = speaker(&head, front);
    let link = link(&links, from, to);
    let mut mode = link.mode.subscribe();
    if !matches!(mode.wait_for(|mode| *mode != Mode::Silent).await.as_deref(), Ok(Mode::Open | Mode::Slow(_)))
    {
        return;
    }
    let Ok(mut member) = TcpStream::connect(("127.0.0.1", back)).await else { return };
    if member.write_all(&head).await.is_err() {
        return;
    }
    let _small_and_soon = (caller.set_nodelay(true), member.set_nodelay(true));
    let ((from_caller, to_caller), (from_member, to_member)) = (caller.into_split(), member.into_split());
    let answers = AtomicU64::new(0);
    tokio::select! {
        () = pump(from_caller, to_member, link.mode.subscribe(), &link.bytes) => {}
        () = pump(from_member, to_caller, link.mode.subscribe(), &answers) => {}
        _cut = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Mode>,
    bytes: &AtomicU64,
) {
    let mut piece = vec![0; 64 << 10];
    loop {
        let mode = *link.borrow_and_update();
        if mode == Mode::Silent {
            if link.changed().await.is_err() {
                return;
            }
            continue;
        }
        let read = tokio::select! {
            _other = link.changed() => continue,
            read = from.read(&mut piece) => read,
        };
        let Ok(len @ 1..) = read else { return };
        if let Mode::Slow(by) = mode {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&piece[..len]).await.is_err() {
            return;
        }
        bytes.fetch_add(len as u64, Relaxed);
    }
}

/// The first request's head, and whatever came with it.
async fn head(caller: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = caller.read_buf(&mut head).await.ok()?;
        if read == 0 || head.len() > HEAD_BYTES_MAX {
            return None;
        }
    }
    Some(head)
}

/// Who speaks on a connection to `front`, and to whom. etcd's streams are asked for by whoever wants to hear.
fn speaker(head: &[u8], front: u16) -> (u16, u16) {
    let caller = sender(head);
    if head.starts_with(b"GET /raft/stream/") { (front, caller) } else { (caller, front) }
}

/// The port of the URL that the caller advertises.
fn sender(head: &[u8]) -> u16 {
    let head = String::from_utf8_lossy(head);
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let port = value.rsplit_once(':')?.1.trim();
        if name.eq_ignore_ascii_case("x-peerurls") { port.parse().ok() } else { None }
    };
    head.lines().find_map(header).unwrap_or(ANYBODY)
}

#[test]
fn a_caller_is_known_by_what_it_advertises() {
    let head =
        b"GET /raft/ketch/urgent HTTP/1.1\r\nhost: 127.0.0.1:9\r\nx-peerurls: http://127.0.0.1:4711\r\n\r\n";
    assert_eq!((sender(head), sender(b"GET /members HTTP/1.1\r\nhost: a:1\r\n\r\n")), (4711, ANYBODY));
    let stream = b"GET /raft/stream/message/1 HTTP/1.1\r\nX-Peerurls: http://127.0.0.1:4711\r\n\r\n";
    assert_eq!((speaker(head, 5), speaker(stream, 5)), ((4711, 5), (5, 4711)));
}

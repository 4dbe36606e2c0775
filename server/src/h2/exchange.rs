//! What the tasks of requests have of a connection: the body that comes in, the answer that goes out.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{HeaderMap, response};
use http_body::Frame;

use super::frame::Reason;
use super::send::Sent;
use super::state::{Options, State};
use crate::sync::lock;

/// Wakes a connection's task, once however often it is rung before the task looks.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    /// Wakes the task.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

    /// From now on the task of `context` is woken. Whatever was there before is to be looked for afterwards.
    pub fn listen(&self, context: &Context<'_>) {
        let mut waker = lock(&self.waker);
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.rung.store(false, Ordering::SeqCst);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A connection, as its own task and those of its requests share it.
#[derive(Debug)]
pub struct Link {
    state: Mutex<State>,
    bell: Arc<Bell>,
}

impl Link {
    /// A connection that has just begun.
    #[must_use]
    pub fn new(options: Options) -> Arc<Link> {
        Arc::new(Link { state: Mutex::new(State::new(options)), bell: Arc::default() })
    }

    /// What wakes the connection's task.
    #[must_use]
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Does `work` on behalf of the connection's task, which sends afterwards.
    pub fn here<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut lock(&self.state))
    }

    /// Does `work` on behalf of another task, and wakes the connection's if there is something to send then.
    fn there<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let done = work(&mut state);
        let sends = state.has_output();
        drop(state);
        if sends {
            self.bell.ring();
        }
        done
    }
}

/// The stream is gone: the client took the request back, or the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client took the request back")
    }
}

impl std::error::Error for Gone {}

/// The body of a request. The client's windows open as it is read.
#[derive(Debug)]
pub struct Body {
    link: Arc<Link>,
    stream: u32,
}

impl Body {
    /// The body that comes on `stream`.
    #[must_use]
    pub fn new(link: &Arc<Link>, stream: u32) -> Body {
        Body { link: Arc::clone(link), stream }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        let read = self.link.there(|state| state.poll_body(self.stream, context));
        read.map(|read| read.map(|read| read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.link.here(|state| state.is_body_over(self.stream))
    }
}

/// The answer to a request. One that is dropped before its end takes its stream with it.
#[derive(Debug)]
pub struct Reply {
    link: Arc<Link>,
    stream: u32,
}

impl Reply {
    /// The answer on `stream`.
    #[must_use]
    pub fn new(link: &Arc<Link>, stream: u32) -> Reply {
        Reply { link: Arc::clone(link), stream }
    }

    /// Begins the answer, and `ends` it if nothing comes behind the head. False if the client has gone away.
    pub fn send_head(&mut self, head: &response::Parts, ends: bool) -> bool {
        self.link.there(|state| state.send_head(self.stream, head.status, &head.headers, ends))
    }

    /// Sends `data`, as far as the client takes it, and takes off what was sent. Ready when nothing of it is left, with whether
    /// the client is still there. With the last of it the answer `ends`, if it is to.
    pub fn poll_send(&mut self, context: &Context<'_>, data: &mut Bytes, ends: bool) -> Poll<bool> {
        match self.link.there(|state| state.send_data(self.stream, data, ends, context)) {
            Sent::All => Poll::Ready(true),
            Sent::Gone => Poll::Ready(false),
            Sent::Blocked => Poll::Pending,
        }
    }

    /// Ends the answer with trailers.
    pub fn send_trailers(self, trailers: &HeaderMap) {
        self.link.there(|state| state.send_trailers(self.stream, trailers));
    }

    /// Breaks the answer off.
    pub fn reset(self, reason: Reason) {
        self.link.there(|state| state.cancel(self.stream, reason));
    }

    /// Ready when the client has gone away; otherwise the task is woken then.
    pub fn poll_gone(&self, context: &Context<'_>) -> Poll<()> {
        self.link.here(|state| state.poll_gone(self.stream, context))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.link.there(|state| state.cancel(self.stream, Reason::Cancel));
    }
}

impl State {
    pub(super) fn poll_body(&mut self, id: u32, context: &Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Some(Err(Gone))) };
        if !stream.body.is_empty() {
            let bytes = stream.body.split().freeze();
            self.release_stream(id, bytes.len());
            return Poll::Ready(Some(Ok(bytes)));
        }
        if stream.received_all {
            return Poll::Ready(None);
        }
        stream.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn is_body_over(&self, id: u32) -> bool {
        // One that was cut off has not ended: reading it says so.
        self.streams.get(&id).is_some_and(|stream| stream.received_all && stream.body.is_empty())
    }

    fn poll_gone(&mut self, id: u32, context: &Context<'_>) -> Poll<()> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(()) };
        if stream.writer.as_ref().is_none_or(|writer| !writer.will_wake(context.waker())) {
            stream.writer = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn has_output(&self) -> bool {
        !self.out.is_empty()
    }
}

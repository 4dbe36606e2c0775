//! Streaming calls that are open: how they are told to end, and what ends them beside their client.
//!
//! A stream ends when the member stops, when its client's deadline passes, and, if its client insists on a leader, when the
//! member has known of none for a while.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use ketch_proto::rpc_error::RpcError;
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::Status;

use super::Api;
use super::context::Context;
use super::error::ApiError;
use crate::sync::lock;

/// So many election timeouts in a row without a leader end the streams that insist on one.
const LEADERLESS_MAX: u32 = 3;

/// All streams that are open.
#[derive(Debug, Default)]
pub struct OpenStreams {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Set once the member stops: a later stream ends at once.
    stopped: bool,
    next: u64,
    open: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    wants_leader: bool,
    signal: Arc<Signal>,
}

/// Wakes one stream's task, and tells it why it ends. One task waits at a time.
#[derive(Debug, Default)]
pub struct Signal(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    end: Option<RpcError>,
    waker: Option<Waker>,
}

impl Signal {
    /// Wakes the stream's task.
    pub fn wake(&self) {
        let waker = lock(&self.0).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn end(&self, why: RpcError) {
        lock(&self.0).end = Some(why);
        self.wake();
    }
}

/// A stream's place among the open ones; dropping it leaves.
#[derive(Debug)]
pub struct Ticket {
    streams: Arc<OpenStreams>,
    number: u64,
    signal: Arc<Signal>,
}

impl Ticket {
    /// What wakes the stream's task, for those who have something for it.
    #[must_use]
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Ready when the stream must end; otherwise the task is woken by [`Signal::wake`] and when the end comes.
    pub fn poll_end(&self, task: &Task<'_>) -> Poll<RpcError> {
        let mut waiting = lock(&self.signal.0);
        if let Some(why) = waiting.end {
            return Poll::Ready(why);
        }
        if waiting.waker.as_ref().is_none_or(|waker| !waker.will_wake(task.waker())) {
            waiting.waker = Some(task.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.streams.inner).open.remove(&self.number);
    }
}

impl OpenStreams {
    /// Takes a stream in.
    pub fn open(self: &Arc<Self>, wants_leader: bool) -> Ticket {
        let signal = Arc::new(Signal::default());
        let mut inner = lock(&self.inner);
        if inner.stopped {
            signal.end(RpcError::ServerStopped);
        }
        inner.next += 1;
        let number = inner.next;
        inner.open.insert(number, Entry { wants_leader, signal: Arc::clone(&signal) });
        Ticket { streams: Arc::clone(self), number, signal }
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.inner).open.len()
    }

    /// Ends all streams, now and from now on: the member stops.
    pub fn stop(&self) {
        let mut inner = lock(&self.inner);
        inner.stopped = true;
        inner.open.values().for_each(|entry| entry.signal.end(RpcError::ServerStopped));
    }

    fn end_those_that_want_a_leader(&self) {
        let inner = lock(&self.inner);
        let wanting = inner.open.values().filter(|entry| entry.wants_leader);
        wanting.for_each(|entry| entry.signal.end(RpcError::NoLeader));
    }
}

/// Looks for a leader once an election timeout, until `stop` becomes true, and ends the streams that insist on one if there
/// is none for long.
pub async fn watch_leader(api: Arc<Api>, election_timeout: Duration, mut stop: watch::Receiver<bool>) {
    let mut leaderless = 0;
    while tokio::time::timeout(election_timeout, stop.wait_for(|&stop| stop)).await.is_err() {
        leaderless = if api.shared.standing().leader == 0 { leaderless + 1 } else { 0 };
        if leaderless >= LEADERLESS_MAX {
            api.streams.end_those_that_want_a_leader();
        }
    }
}

pin_project! {
    /// A stream of answers that ends when [`OpenStreams`] or the client's deadline say so.
    pub struct Guarded<S> {
        #[pin]
        answers: S,
        ticket: Ticket,
        deadline: Option<Pin<Box<Sleep>>>,
        over: bool,
    }
}

impl<S> Guarded<S> {
    /// Guards `answers`, which belong to the call of `context`.
    pub fn new(api: &Api, context: &Context, answers: S) -> Guarded<S> {
        Guarded {
            answers,
            ticket: api.streams.open(context.wants_leader),
            deadline: context.stream_deadline(),
            over: false,
        }
    }
}

impl<S, A> Stream for Guarded<S>
where
    S: Stream<Item = Result<A, ApiError>>,
{
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let late = this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(task).is_ready());
        let answer = if late {
            Some(Err(ApiError::DeadlineExceeded))
        } else if let Poll::Ready(why) = this.ticket.poll_end(task) {
            Some(Err(why.into()))
        } else {
            std::task::ready!(this.answers.poll_next(task))
        };
        *this.over = !matches!(answer, Some(Ok(_)));
        Poll::Ready(answer.map(|answer| answer.map_err(Status::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(ticket: &Ticket) -> Option<RpcError> {
        match ticket.poll_end(&Task::from_waker(Waker::noop())) {
            Poll::Ready(why) => Some(why),
            Poll::Pending => None,
        }
    }

    #[test]
    fn streams_end_with_the_member_and_leave_when_dropped() {
        let streams = Arc::new(OpenStreams::default());
        let (one, two) = (streams.open(false), streams.open(true));
        streams.end_those_that_want_a_leader();
        assert_eq!((end_of(&one), end_of(&two)), (None, Some(RpcError::NoLeader)));
        drop(two);
        assert_eq!(streams.count(), 1);
        streams.stop();
        assert_eq!(end_of(&one), Some(RpcError::ServerStopped));
        assert_eq!(end_of(&streams.open(false)), Some(RpcError::ServerStopped), "too late");
        drop(one);
        assert_eq!(streams.count(), 0);
    }
}

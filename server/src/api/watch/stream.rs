//! The body of a watch call's answer. Polled when HTTP/2's windows have room: then requests are read, and responses
//! made of what the hub has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;
use tonic::{Code, Status};

use super::encode::Frames;
use super::progress::Schedule;
use super::requests::Requests;
use super::session::{Identity, Session};
use crate::api::Api;
use crate::api::context::Context;
use crate::api::error::{ApiError, too_large_to_send};
use crate::api::streams::Ticket;
use crate::clock::{self, Stopwatch};
use crate::grpc::answer::failed;
use crate::grpc::outgoing::MESSAGE_BYTES_MAX;

/// How many requests are read before others have their turn. Not all have an answer that holds up the next one.
const REQUESTS_MAX: u32 = 64;

/// See the file's comment.
pub struct WatchBody<B> {
    api: Arc<Api>,
    requests: Requests<B>,
    no_more_requests: bool,
    session: Session,
    frames: Frames,
    ticket: Ticket,
    deadline: Option<Pin<Box<Sleep>>>,
    schedule: Schedule,
    /// The next tick, once a watch wants progress notices.
    tick: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl<B> WatchBody<B>
where
    B: http_body::Body<Data = Bytes>,
{
    /// The answer to `requests`, which belong to the call of `context`.
    pub fn new(
        api: Arc<Api>,
        context: &Context,
        requests: Requests<B>,
        fragment_bytes: usize,
    ) -> WatchBody<B> {
        let ticket = api.streams.open(context.wants_leader);
        let signal = Arc::clone(ticket.signal());
        let shared = &api.shared;
        let identity =
            Identity { cluster_id: shared.cluster_id, member_id: shared.member_id, fragment_bytes };
        let wake = Arc::new(move || signal.wake());
        let session = Session::new(identity, api.watches.hub(), shared.reader.clone(), wake);
        api.metrics.watch_streams.inc();
        WatchBody {
            requests,
            no_more_requests: false,
            session,
            frames: Frames::default(),
            ticket,
            deadline: context.stream_deadline(),
            schedule: api.watches.schedule(),
            tick: None,
            over: false,
            api,
        }
    }

    /// Why the call ends now, if it does. Otherwise the task is woken when there is a reason, or something to send.
    fn poll_end(&mut self, task: &mut Task<'_>) -> Poll<ApiError> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(task).is_ready()) {
            return Poll::Ready(ApiError::DeadlineExceeded);
        }
        self.ticket.poll_end(task).map(ApiError::from)
    }

    fn read_requests(&mut self, task: &mut Task<'_>) -> Result<(), Status> {
        let mut taken = 0;
        while self.session.has_room() && !self.no_more_requests {
            if taken == REQUESTS_MAX {
                task.waker().wake_by_ref();
                break;
            }
            taken += 1;
            match self.requests.poll_next(task) {
                Poll::Ready(Some(request)) => self.session.handle(request?),
                Poll::Ready(None) => self.no_more_requests = true,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_tick(&mut self, task: &mut Task<'_>) {
        if self.tick.is_none() && self.session.wants_progress() {
            let first = self.schedule.next(clock::now());
            self.tick = Some(Box::pin(tokio::time::sleep_until(first)));
        }
        let Some(tick) = &mut self.tick else { return };
        while tick.as_mut().poll(task).is_ready() {
            let watch = Stopwatch::start();
            self.session.tick();
            self.api.metrics.streams.progress.observe(watch.elapsed());
            tick.as_mut().reset(self.schedule.next(clock::now()));
        }
    }

    fn fill(&mut self) {
        let term = self.api.shared.standing().term;
        let has_answers = self.session.has_answers();
        let watch = Stopwatch::start();
        let mut sent = self.session.fill(&mut self.frames, term);
        if self.session.waits_for_delivery() {
            self.api.watches.wake_after_delivery(self.ticket.signal());
            // It may have happened between the look and the entry.
            sent += self.session.fill(&mut self.frames, term);
        }
        if sent > 0 {
            self.api.metrics.watch_events.add(sent);
            let took = watch.elapsed();
            self.api.metrics.streams.watch.observe(took);
            self.api.metrics.streams.per_event.observe(took / u32::try_from(sent).unwrap_or(u32::MAX));
        } else if has_answers {
            self.api.metrics.streams.control.observe(watch.elapsed());
        }
    }

    /// What is to be sent is too long, and so is the end of the call.
    fn end_too_long(&mut self, len: usize) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.api.metrics.streams.watch_send.inc();
        self.end(&too_large_to_send(len, MESSAGE_BYTES_MAX))
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.over = true;
        Poll::Ready(Some(Ok(failed(status))))
    }
}

impl<B> Drop for WatchBody<B> {
    fn drop(&mut self) {
        self.api.metrics.watch_streams.dec();
    }
}

impl<B> http_body::Body for WatchBody<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(piece) = this.frames.pop() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(len) = this.frames.too_long() {
            return this.end_too_long(len);
        }
        if let Poll::Ready(why) = this.poll_end(task) {
            return this.end(&why.into());
        }
        if let Err(status) = this.read_requests(task) {
            // A client that goes away is no failure.
            if status.code() != Code::Cancelled {
                this.api.metrics.streams.watch_receive.inc();
            }
            return this.end(&status);
        }
        this.poll_tick(task);
        this.fill();
        match (this.frames.pop(), this.frames.too_long()) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, Some(len)) => this.end_too_long(len),
            (None, None) => Poll::Pending,
        }
    }
}

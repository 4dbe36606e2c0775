//! One HTTP/2 connection: its socket, its requests. The frequent calls are carried out here, in the connection's own task; others get a
//! task each.
//!
//! What came in one read is begun together and answered together: one system call for the requests of many clients, one for their
//! answers. An idle connection holds no buffer: all are read into one of the thread's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{poll_fn, ready as at_once};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tonic::Status;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::connection::Stopping;
use super::keepalive::KeepAlive;
use super::{Connections, Protocols, Stream};
use crate::api::express::{self, Begun, Ended, Express, Pending};
use crate::api::router;
use crate::api::slow::Remote;
use crate::aside::Aside;
use crate::clock;
use crate::grpc::answer::{self, Long};
use crate::grpc::outgoing::Outgoing;
use crate::h2::{Bell, Body, Event, Link, Options, Output, PREFACE, Reason, Reply, RequestHead, Sent, State};
use crate::metrics::CountRpcsLayer;
use crate::propose::Proposed;
use crate::sync::{lock, try_lock};
use crate::wait::Sink;

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;
/// So many pieces of a body that is long, or may become so, are made where its request was served.
const BRIEF: usize = 4;
/// So many reads one after the other, then other connections have their turn.
const READS_MAX: usize = 4;

thread_local! {
    /// What is read, until it was looked at.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// One connection; served by the future that it becomes.
pub(super) struct Http2 {
    /// For those who answer in place of its task.
    this: Weak<Mutex<Http2>>,
    stream: Stream,
    remote: Remote,
    link: Arc<Link>,
    /// What the system has not taken yet.
    sending: Output,
    protocols: Protocols,
    calls: Option<Calls>,
    keepalive: Option<KeepAlive>,
    /// Until the client has said its settings.
    handshake: Option<Pin<Box<Sleep>>>,
    stopping: Stopping,
}

/// The calls that are carried out here.
struct Calls {
    express: Express,
    pending: HashMap<u32, Pending>,
    outcomes: Arc<Outcomes>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What commands came to, by the streams that wait for it.
#[derive(Debug)]
struct Outcomes {
    values: Mutex<Vec<(u32, Option<Proposed>)>>,
    bell: Arc<Bell>,
    connection: Weak<Mutex<Http2>>,
    /// Where tasks are started.
    runtime: Handle,
}

impl Outcomes {
    /// Answers on the calling thread. False if that is left to the connection's task.
    fn answer_here(&self) -> bool {
        // One that is gone has nothing to say.
        let Some(connection) = self.connection.upgrade() else { return true };
        // The task may be about to look for outcomes, or past it.
        let Some(mut connection) = try_lock(&connection) else { return false };
        let _inside = self.runtime.enter();
        connection.answer()
    }
}

impl Sink<Proposed> for Outcomes {
    fn take(&self, stream: u32, value: Option<Proposed>) {
        lock(&self.values).push((stream, value));
        self.bell.ring();
    }

    fn take_alone(&self, stream: u32, value: Option<Proposed>) {
        lock(&self.values).push((stream, value));
        if !self.answer_here() {
            self.bell.ring();
        }
    }
}

impl Http2 {
    /// A connection whose client has said that it speaks HTTP/2, or is to be [greeted](Self::greet) first.
    pub(super) fn new(
        stream: Stream,
        remote: Remote,
        protocols: Protocols,
        connections: &Connections,
        stop: watch::Receiver<bool>,
    ) -> Http2 {
        let tag: fn(&RequestHead) -> u8 = if protocols.grpc.is_some() { express::tag } else { |_| 0 };
        let (streams_max, ping_min) = (connections.streams_max, connections.ping_min);
        let link = Link::new(Options { streams_max, ping_min, tag });
        let keepalive = KeepAlive::new(connections.keepalive);
        let (sending, stopping) = (Output::default(), Stopping::new(stop));
        let handshake = Some(Box::pin(sleep(connections.handshake)));
        let (this, calls) = (Weak::new(), None);
        Http2 { this, stream, remote, link, sending, protocols, calls, keepalive, handshake, stopping }
    }

    /// Answers what has come to something, in place of the task. False if it is needed after all.
    fn answer(&mut self) -> bool {
        // It waits for room as well.
        if !self.link.here(|state| state.wants_input()) {
            return false;
        }
        self.finish_calls();
        let waker = Waker::from(Arc::clone(self.link.bell()));
        // What others make meanwhile, a long list as it may be, is the task's to send.
        let sent = self.poll_send_pieces(&mut Context::from_waker(&waker), 1);
        matches!(sent, Poll::Ready(Ok(()))) && !self.link.here(|state| state.is_over())
    }

    /// Says the settings, then waits until the client has said whether it speaks HTTP/2, in as many bytes as that takes.
    pub(super) async fn greet(&mut self) -> io::Result<bool> {
        poll_fn(|context| self.poll_send(context)).await?;
        let mut said = [0; PREFACE.len()];
        self.stream.read_exact(&mut said).await?;
        Ok(said == *PREFACE)
    }

    /// Reads what has come and begins what it asks for. Pending when nothing more has come, ready with false when nothing more will.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if !self.link.here(|state| state.wants_input()) {
            return Poll::Pending;
        }
        let mut events = Vec::new();
        let stream = &mut self.stream;
        let link = &self.link;
        let read = READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
            let bytes = buffer.filled();
            link.here(|state| {
                if let Err(fatal) = state.receive(bytes, &mut events) {
                    state.fail(fatal);
                }
            });
            Poll::Ready(io::Result::Ok(bytes.len()))
        });
        let more = matches!(ready!(read), Ok(1..));
        if more && let Some(keepalive) = &mut self.keepalive {
            keepalive.heard();
        }
        self.take_events(&events);
        Poll::Ready(more)
    }

    fn take_events(&mut self, events: &[Event]) {
        let mut taken_back = false;
        for event in events {
            match event {
                Event::Request { stream, head } => self.dispatch(*stream, head),
                Event::Call { stream, head, body } => self.call(*stream, head, body),
                Event::Reset { stream } => {
                    if let Some(calls) = &mut self.calls
                        && let Some(pending) = calls.pending.remove(stream)
                    {
                        calls.express.leave(&pending);
                        taken_back = true;
                    }
                }
            }
        }
        if let Some(calls) = &mut self.calls {
            if taken_back {
                calls.express.keep(|stream| calls.pending.contains_key(&stream));
            }
            if calls.express.is_slow() {
                for event in events {
                    if let Event::Call { stream, body, .. } = event {
                        calls.express.tell(*stream, body);
                    }
                }
            }
            let sink: Arc<dyn Sink<Proposed>> = Arc::<Outcomes>::clone(&calls.outcomes);
            calls.express.start(&sink);
        }
    }

    fn call(&mut self, stream: u32, head: &RequestHead, body: &Bytes) {
        let Some(api) = &self.protocols.grpc else { return self.dispatch_with(stream, head, body) };
        let calls = self.calls.get_or_insert_with(|| Calls {
            express: Express::new(Arc::clone(api), self.remote),
            pending: HashMap::new(),
            outcomes: Arc::new(Outcomes {
                values: Mutex::default(),
                bell: Arc::clone(self.link.bell()),
                connection: Weak::clone(&self.this),
                runtime: Handle::current(),
            }),
            timer: None,
        });
        match calls.express.begin(stream, head, body) {
            Begun::Done(answer) => {
                self.link.here(|state| state.consumed(body.len()));
                send_answer(&self.link, stream, answer);
            }
            Begun::Waiting(pending) => {
                self.link.here(|state| state.consumed(body.len()));
                calls.wait_until(pending.deadline);
                calls.pending.insert(stream, pending);
            }
            Begun::Elsewhere => self.dispatch_with(stream, head, body),
        }
    }

    /// Starts the task of a request whose body is there.
    fn dispatch_with(&self, stream: u32, head: &RequestHead, body: &Bytes) {
        if self.link.here(|state| state.put_back(stream, body)) {
            self.dispatch(stream, head);
        }
    }

    /// Starts the task of a request.
    fn dispatch(&self, stream: u32, head: &RequestHead) {
        let request = head.to_request(Body::new(&self.link, stream));
        let reply = Reply::new(&self.link, stream);
        match &self.protocols.grpc {
            Some(api) if is_grpc(&request) && !self.refuses(&request) => {
                let (api, remote) = (Arc::clone(api), self.remote);
                let aside = Some(Arc::clone(&api.aside));
                let counted = CountRpcsLayer::new(Arc::clone(&api.metrics));
                let mut service = counted.layer(service_fn(move |request| {
                    let api = Arc::clone(&api);
                    async move { Ok::<_, Infallible>(router::serve(api, remote, request).await) }
                }));
                tokio::spawn(respond(service.call(request), reply, aside));
            }
            _ => match &self.protocols.http {
                Some(http) => {
                    let call = http.clone().oneshot(request.map(axum::body::Body::new));
                    tokio::spawn(respond(call, reply, None));
                }
                None => drop(tokio::spawn(respond(at_once(Ok(not_grpc(&request))), reply, None))),
            },
        }
    }

    /// Whether it is a gRPC request that is none, on a port that has nothing else.
    fn refuses<B>(&self, request: &Request<B>) -> bool {
        self.protocols.http.is_none() && request.method() != Method::POST
    }

    /// Answers the calls whose commands came to something.
    fn finish_calls(&mut self) {
        let Some(calls) = &mut self.calls else { return };
        let values = std::mem::take(&mut *lock(&calls.outcomes.values));
        if values.is_empty() {
            return;
        }
        let now = clock::now();
        for (stream, value) in values {
            if let Some(pending) = calls.pending.remove(&stream) {
                let ended = calls.express.end(&pending, value, now);
                send_end(&self.link, stream, ended, &calls.express);
            }
        }
        calls.express.settle(now);
    }

    /// Sends what waits, as far as the system takes it. Pending if it does not take all; the task is woken then when it takes more.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_pieces(context, usize::MAX)
    }

    /// The same with at most so many calls of the system; woken at once if that is not all.
    fn poll_send_pieces(&mut self, context: &mut Context<'_>, mut left: usize) -> Poll<io::Result<()>> {
        loop {
            self.link.here(|state| state.take_output(&mut self.sending));
            if self.sending.is_empty() {
                break;
            }
            if left == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            left -= 1;
            let stream = Pin::new(&mut self.stream);
            let sent = match self.sending.single() {
                Some(bytes) => stream.poll_write(context, bytes),
                None => stream.poll_write_vectored(context, &self.sending.slices()),
            };
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => {
                    self.sending.advance(sent);
                    self.link.here(|state| state.sent(sent));
                }
            }
        }
        if self.link.here(State::serve_idle_line) {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client does not answer any more.
    fn mind_the_time(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.stopping.poll(context).is_ready() {
            self.link.here(State::close);
        }
        if let Some(handshake) = &mut self.handshake {
            if self.link.here(|state| state.is_settled()) {
                self.handshake = None;
            } else if handshake.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        if let Some(keepalive) = &mut self.keepalive {
            let link = &self.link;
            let silent = keepalive.poll(context, |payload| link.here(|state| state.ping(payload)));
            if silent.is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Calls {
    fn wait_until(&mut self, deadline: Instant) {
        match &mut self.timer {
            Some(timer) if timer.deadline() <= deadline => {}
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(sleep_until(deadline))),
        }
    }

    /// Ends the calls whose deadlines have passed. The timer is set for the first one of some time ago: it goes off early as a rule.
    fn mind_the_time(&mut self, context: &mut Context<'_>, link: &Arc<Link>) {
        while self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready()) {
            let now = clock::now();
            let late: Vec<u32> = self
                .pending
                .iter()
                .filter(|(_, pending)| pending.deadline <= now)
                .map(|(&id, _)| id)
                .collect();
            for stream in late {
                if let Some(pending) = self.pending.remove(&stream) {
                    send_end(link, stream, self.express.late(&pending), &self.express);
                }
            }
            self.timer = None;
            if let Some(next) = self.pending.values().map(|pending| pending.deadline).min() {
                self.wait_until(next);
            }
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.link.here(State::abandon);
        if let Some(calls) = &mut self.calls {
            let Calls { express, pending, .. } = calls;
            pending.values().for_each(|pending| express.leave(pending));
        }
    }
}

/// The life of a connection: ready when it has ended. Its task is not the only one to answer: who has carried out the only command under
/// way does so too.
pub(super) struct Served(Arc<Mutex<Http2>>);

impl IntoFuture for Http2 {
    type Output = ();
    type IntoFuture = Served;

    fn into_future(mut self) -> Served {
        Served(Arc::new_cyclic(|this| {
            self.this = Weak::clone(this);
            Mutex::new(self)
        }))
    }
}

impl Future for Served {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        lock(&self.0).poll(context)
    }
}

impl Http2 {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.link.bell().listen(context);
        if self.mind_the_time(context).is_ready() {
            return Poll::Ready(());
        }
        let mut reads = 0;
        loop {
            let wanted = self.link.here(|state| state.wants_input());
            let read = self.poll_read(context);
            self.finish_calls();
            // Behind the reading, which may have set the timer: one that was not polled wakes nobody.
            if let Some(calls) = &mut self.calls {
                calls.mind_the_time(context, &self.link);
            }
            if let Poll::Ready(Err(_broken)) = self.poll_send(context) {
                return Poll::Ready(());
            }
            let (over, sent) = self.link.here(|state| (state.is_over(), state.is_sent()));
            if over && sent {
                // The last word is with the system; whether the client hears it is its business.
                let _closed = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
                return Poll::Ready(());
            }
            match read {
                Poll::Ready(true) => {
                    reads += 1;
                    if reads >= READS_MAX {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Poll::Ready(false) => return Poll::Ready(()),
                // Nothing was read because too much waited to be sent, and that is gone now: nobody else would wake the task.
                Poll::Pending if !wanted && self.link.here(|state| state.wants_input()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Sends the answer of a call: at once if there is room, otherwise by a task that waits for it.
fn send_answer(link: &Arc<Link>, stream: u32, mut answer: Outgoing) {
    if answer.is_whole() {
        let message = answer.next_piece().unwrap_or_default();
        if link.here(|state| state.send_unary(stream, &message)) != Sent::Blocked {
            return;
        }
        answer = Outgoing::again(message);
    }
    tokio::spawn(respond(std::future::ready(Ok(answer::unary(answer))), Reply::new(link, stream), None));
}

fn send_end(link: &Arc<Link>, stream: u32, ended: Ended, express: &Express) {
    match ended {
        Ended::Answer(answer) => send_answer(link, stream, answer),
        Ended::Failed(status) => {
            let (head, _) = status.into_http::<tonic::body::Body>().into_parts();
            link.here(|state| state.send_head(stream, head.status, &head.headers, true));
        }
        Ended::Unread(txn, watch) => {
            let api = Arc::clone(express.api());
            let read = async move {
                Ok(Express::read(&api, *txn, watch).await.map_or_else(Status::into_http, answer::unary))
            };
            let aside = Some(Arc::clone(&express.api().aside));
            tokio::spawn(respond(read, Reply::new(link, stream), aside));
        }
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let is_type = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    request.headers().get(header::CONTENT_TYPE).is_some_and(is_type)
}

/// What a port of gRPC alone says to what is no gRPC request, in the words of gRPC-Go.
fn not_grpc<B>(request: &Request<B>) -> Response<axum::body::Body> {
    let (code, status) = if is_grpc(request) {
        let method = request.method();
        let why = format!("Received a HEADERS frame with :method \"{method}\" which should be POST");
        (StatusCode::METHOD_NOT_ALLOWED, Status::internal(why))
    } else {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let why = format!("invalid gRPC request content-type \"{}\"", kind.unwrap_or_default());
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::invalid_argument(why))
    };
    let mut response = status.into_http();
    *response.status_mut() = code;
    response
}

/// Makes the answer and sends it; gives up as soon as the client does. What is long goes on `aside`, if there is such a place.
async fn respond<B>(
    call: impl Future<Output = Result<Response<B>, Infallible>>,
    mut reply: Reply,
    aside: Option<Arc<Aside>>,
) where
    B: http_body::Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    let made = {
        let mut call = pin!(call);
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(made) => Poll::Ready(Some(made)),
            Poll::Pending => reply.poll_gone(context).map(|()| None),
        })
        .await
    };
    let Some(Ok(response)) = made else { return };
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    if !reply.send_head(&head, ends) || ends {
        return;
    }
    let aside = aside.filter(|_| head.extensions.get::<Long>().is_some());
    let here = if aside.is_some() { BRIEF } else { usize::MAX };
    if let (Some((body, reply)), Some(aside)) = (send(body, reply, here).await, aside) {
        drop(aside.spawn(send(body, reply, usize::MAX)));
    }
}

/// Sends a body, as fast as the client takes it; gives it back if there is more of it than so many pieces.
async fn send<B>(mut body: B, mut reply: Reply, pieces: usize) -> Option<(B, Reply)>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    for _ in 0..pieces {
        let frame = poll_fn(|context| match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => reply.poll_gone(context).map(|()| None),
        });
        match frame.await? {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let ends = body.is_end_stream();
                    let is_there = poll_fn(|context| reply.poll_send(context, &mut data, ends)).await;
                    if !is_there || ends {
                        return None;
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        reply.send_trailers(&trailers);
                        return None;
                    }
                }
            },
            Some(Err(_)) => {
                reply.reset(Reason::Internal);
                return None;
            }
            None => {
                let mut nothing = Bytes::new();
                poll_fn(|context| reply.poll_send(context, &mut nothing, true)).await;
                return None;
            }
        }
    }
    Some((body, reply))
}

#[cfg(test)]
mod tests;

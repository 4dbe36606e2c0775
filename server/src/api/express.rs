//! Calls that a connection's task carries out itself: the frequent ones, in their usual form, where nothing has to be waited for
//! but the answer of a command. A task of its own would cost such a call more than everything else about it.
//!
//! Whatever is not as usual (an error, a full store, a large range, a compressed message, metadata that means something) is left
//! to the [`router`](super::router), which knows all of it: [`Express::begin`] says so before anything has happened.

mod count;

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use ketch_proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};
use ketch_proto::metadata;
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use count::Counts;

use super::answer::Answer as _;
use super::error::ApiError;
use super::router::sendable;
use super::slow::{self, Facts, Remote, Watch};
use super::{Api, context, range, validate};
use crate::apply::answer::{Answer, TxnAnswer};
use crate::apply::txn;
use crate::caller::Caller;
use crate::clock;
use crate::grpc::HEAD_BYTES;
use crate::grpc::outgoing::Outgoing;
use crate::h2::RequestHead;
use crate::metrics::grpc::{CANCELED, GrpcMethod, GrpcMetrics};
use crate::propose::{Prepared, Proposed};
use crate::quota;
use crate::stint;
use crate::wait::Sink;

/// Methods by their tag, which is their place here, from 1.
const METHODS: [&str; 4] = [
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/DeleteRange",
];
const PUT: u8 = 1;
const RANGE: u8 = 2;
const TXN: u8 = 3;

/// A call with a shorter deadline is left to the router.
const DEADLINE_MIN: Duration = Duration::from_millis(1);
/// Comparisons and operations of a transaction that is carried out here.
const QUICK_OPS_MAX: usize = 32;

/// Metadata that asks for something, or says who asks: not the usual form.
const UNUSUAL: [&str; 4] = [metadata::HAS_LEADER, "authorization", "token", "grpc-encoding"];

thread_local! {
    /// The ranges of the read that is being looked at, by their streams: what is told of them if they took long.
    static RANGES: RefCell<Vec<(u32, Facts)>> = const { RefCell::new(Vec::new()) };
}

/// The tag of a request that may be one of these calls; 0 for all others.
#[must_use]
pub fn tag(head: &RequestHead) -> u8 {
    let place = METHODS.iter().position(|path| head.uri.path() == *path);
    let Some(place) = place.filter(|_| head.method == Method::POST && is_usual(&head.headers)) else {
        return 0;
    };
    place as u8 + 1
}

/// Looks at each field once: finding one by its name costs more than passing by all of them.
fn is_usual(headers: &HeaderMap) -> bool {
    let mut is_grpc = None;
    for (name, value) in headers {
        if name == header::CONTENT_TYPE {
            // The first one counts.
            is_grpc.get_or_insert(value.as_bytes().starts_with(b"application/grpc"));
        } else if UNUSUAL.contains(&name.as_str())
            || name == metadata::CLIENT_API_VERSION && std::str::from_utf8(value.as_bytes()).is_err()
        {
            return false;
        }
    }
    is_grpc == Some(true)
}

/// The value of `grpc-timeout` and the version of the API that the client speaks.
fn timeout_and_version(headers: &HeaderMap) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
    let (mut timeout, mut version) = (None, None);
    for (name, value) in headers {
        match name.as_str() {
            "grpc-timeout" => timeout = timeout.or(Some(value)),
            metadata::CLIENT_API_VERSION => version = version.or(Some(value)),
            _ => {}
        }
    }
    (timeout, version)
}

/// What became of a call that was begun.
#[derive(Debug)]
pub enum Begun {
    /// The answer is there.
    Done(Outgoing),
    /// It comes under the stream's number to whoever was named to [`Express::start`].
    Waiting(Pending),
    /// Nothing: the call is for the router.
    Elsewhere,
}

/// A call that waits for its command.
#[derive(Debug)]
pub struct Pending {
    serial: u64,
    tag: u8,
    message: Bytes,
    start: Instant,
    /// When nobody waits any more.
    pub deadline: Instant,
    /// Whether that is the client's own deadline.
    clients: bool,
}

/// What a call came to.
#[derive(Debug)]
pub enum Ended {
    /// The answer is there.
    Answer(Outgoing),
    /// It has yet to be read, which takes a while.
    Unread(Box<TxnAnswer>, Watch),
    /// It failed.
    Failed(Status),
}

/// The calls of one connection.
pub struct Express {
    api: Arc<Api>,
    prepared: Vec<(u32, Prepared)>,
    counts: Counts,
    remote: Remote,
}

impl Express {
    /// Calls to `api` of a client at `remote`.
    #[must_use]
    pub fn new(api: Arc<Api>, remote: Remote) -> Express {
        Express { api, prepared: Vec::new(), counts: Counts::default(), remote }
    }

    /// The member.
    #[must_use]
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Begins the call on `stream`. What it proposes is handed in by [`start`](Self::start).
    pub fn begin(&mut self, stream: u32, head: &RequestHead, body: &Bytes) -> Begun {
        let Some(message) = self.message(body) else { return Begun::Elsewhere };
        let (deadline, version) = timeout_and_version(&head.headers);
        let deadline = deadline.and_then(|value| context::timeout(value.as_bytes()));
        // It may be over on arrival.
        if deadline.is_some_and(|deadline| deadline < DEADLINE_MIN) {
            return Begun::Elsewhere;
        }
        let now = self.counts.now();
        let begun = if head.tag == RANGE {
            self.range(message).map(|(answer, facts)| {
                self.counts.answered(RANGE, answer.len());
                RANGES.with_borrow_mut(|ranges| ranges.push((stream, facts)));
                Begun::Done(answer)
            })
        } else {
            self.propose(stream, head.tag, deadline, message, now).map(Begun::Waiting)
        };
        let Some(begun) = begun else { return Begun::Elsewhere };
        stint::asked();
        self.counts.begun(&self.api.metrics, head.tag, body.len() - HEAD_BYTES, version);
        begun
    }

    /// Forgets what was proposed on the streams that are not among those to `keep`, as long as it was not handed in: nobody would
    /// take its outcome off again.
    pub fn keep(&mut self, keep: impl Fn(u32) -> bool) {
        self.prepared.retain(|(stream, _)| keep(*stream));
    }

    /// All calls of one read have begun: hands in what was proposed, all together. What it comes to is told to `sink` by the streams'
    /// numbers.
    pub fn start(&mut self, sink: &Arc<dyn Sink<Proposed>>) {
        self.counts.all_begun(&self.api.metrics);
        RANGES.with_borrow_mut(Vec::clear);
        if !self.prepared.is_empty() {
            self.api.proposer.start(std::mem::take(&mut self.prepared), sink);
        }
    }

    /// All calls of one read have begun: whether its ranges took so long that each is to be told of, by [`tell`](Self::tell).
    pub fn is_slow(&mut self) -> bool {
        let has_some = RANGES.with_borrow(|ranges| !ranges.is_empty());
        has_some && slow::is_slow_read(&self.api, self.counts.now().elapsed())
    }

    /// Tells of the range on `stream`, if there was one, which took long.
    pub fn tell(&mut self, stream: u32, body: &Bytes) {
        let found =
            |ranges: &Vec<(u32, Facts)>| ranges.iter().find(|(of, _)| *of == stream).map(|(_, facts)| *facts);
        if let Some(facts) = RANGES.with_borrow(found) {
            let took = self.counts.now().elapsed();
            let message = body.slice(HEAD_BYTES..);
            slow::apply::report_range(&self.api, &message, took, facts);
            self.report(RANGE, &message, took, Some(facts));
        }
    }

    fn report(&self, tag: u8, message: &Bytes, took: Duration, answer: Option<Facts>) {
        let call = slow::Call { path: path(tag), remote: self.remote, message, took, answer };
        slow::report(&self.api, &call);
    }

    /// All answers of one turn are there, at `now`.
    pub fn settle(&mut self, now: Instant) {
        self.counts.settle(&self.api.metrics, now);
    }

    /// What the command of `pending` came to, which is known at `now`.
    #[must_use]
    pub fn end(&mut self, pending: &Pending, value: Option<Proposed>, now: Instant) -> Ended {
        if let Some(Ok(_)) = value {
            self.counts.ended(&self.api.metrics, pending.tag, pending.start, now);
        } else {
            self.count_failure(pending, now);
        }
        let ended = self.answer(pending, value);
        let took = now.saturating_duration_since(pending.start);
        if slow::is_slow(&self.api, took) {
            match &ended {
                (Ended::Answer(answer), facts) => {
                    let facts = Facts { bytes: answer.len(), ..*facts };
                    self.report(pending.tag, &pending.message, took, Some(facts));
                }
                (Ended::Failed(_), _) => self.report(pending.tag, &pending.message, took, None),
                (Ended::Unread(..), _) => {}
            }
        }
        ended.0
    }

    fn answer(&mut self, pending: &Pending, value: Option<Proposed>) -> (Ended, Facts) {
        let shared = &self.api.shared;
        let header = |revision| shared.header(revision);
        let failed = |ended| (ended, Facts::default());
        let mut facts = Facts::default();
        let answer = match self.api.proposer.verdict(value) {
            Ok(Answer::Put(put)) if pending.tag == PUT => range::put_answer(put, header).into_outgoing(),
            Ok(Answer::Txn(txn)) if pending.tag == TXN => match range::complete_if_small(txn) {
                Ok(Ok(mut answer)) => {
                    answer.header = header(answer.header.revision);
                    facts = answer.facts();
                    answer.into_outgoing()
                }
                Ok(Err(error)) => return failed(self.failed(pending.tag, error)),
                Err(unread) => {
                    let (api, message) = (Arc::clone(&self.api), pending.message.clone());
                    let watch = Watch::of(api, path(TXN), self.remote, message, pending.start);
                    return failed(Ended::Unread(unread, watch));
                }
            },
            Ok(Answer::Delete(delete)) if pending.tag > TXN => {
                let answer = range::delete_answer(delete, header);
                facts = answer.facts();
                answer.into_outgoing()
            }
            Ok(_) => return failed(self.failed(pending.tag, ApiError::mismatched())),
            Err(error) => {
                return failed(self.failed(pending.tag, self.name_timeout(pending, error.into())));
            }
        };
        match sendable(answer) {
            Ok(answer) => {
                self.counts.answered(pending.tag, answer.len());
                (Ended::Answer(answer), facts)
            }
            Err(status) => failed(self.failed_with(pending.tag, status)),
        }
    }

    /// Reads what [`Ended::Unread`] left to be read.
    ///
    /// # Errors
    /// The status to answer with.
    pub async fn read(api: &Api, txn: TxnAnswer, watch: Watch) -> Result<Outgoing, Status> {
        let revision = txn.revision;
        let answer = range::complete(api, txn).await;
        let counted = method(&api.metrics.grpc, TXN);
        match answer {
            Ok(mut answer) => {
                answer.header = api.shared.header(revision);
                let facts = answer.facts();
                let outgoing = sendable(answer.into_outgoing())?;
                watch.answered(Facts { bytes: outgoing.len(), ..facts });
                if let Some(method) = counted {
                    method.handled[0].inc();
                    method.sent.inc();
                }
                api.metrics.grpc.sent_bytes.add(outgoing.len() as u64);
                Ok(outgoing)
            }
            Err(error) => {
                let status = Status::from(error);
                if let Some(count) = counted.and_then(|method| method.handled.get(status.code() as usize)) {
                    count.inc();
                }
                Err(status)
            }
        }
    }

    /// The deadline of `pending` has passed.
    #[must_use]
    pub fn late(&self, pending: &Pending) -> Ended {
        self.api.proposer.leave(pending.serial);
        self.count_failure(pending, clock::now());
        self.tell_failure(pending);
        let error = self.api.proposer.late(pending.start);
        self.failed(pending.tag, self.name_timeout(pending, error.into()))
    }

    /// The client does not wait for `pending` any more. What was not handed in yet never is.
    pub fn leave(&mut self, pending: &Pending) {
        self.prepared.retain(|(_, prepared)| prepared.serial != pending.serial);
        self.api.proposer.leave(pending.serial);
        self.count_failure(pending, clock::now());
        self.tell_failure(pending);
        if let Some(method) = method(&self.api.metrics.grpc, pending.tag) {
            method.handled[CANCELED].inc();
        }
    }

    /// A call has ended at `now` without its command's answer.
    fn count_failure(&self, pending: &Pending, now: Instant) {
        let took = now.saturating_duration_since(pending.start);
        count::observe(&self.api.metrics, pending.tag, false, took, 1);
    }

    /// Tells of a call that nobody waits for any more, if that was long.
    fn tell_failure(&self, pending: &Pending) {
        let took = pending.start.elapsed();
        if slow::is_slow(&self.api, took) {
            self.report(pending.tag, &pending.message, took, None);
        }
    }

    /// The one message of a body, if it is whole, plain and no larger than allowed.
    fn message(&self, body: &Bytes) -> Option<Bytes> {
        let (&[flag, a, b, c, d], message) = body.split_first_chunk()?;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let usual = flag == 0 && len == message.len() && len <= self.api.limits.message_bytes_max();
        usual.then(|| body.slice(HEAD_BYTES..))
    }

    fn range(&self, message: Bytes) -> Option<(Outgoing, Facts)> {
        let api = &self.api;
        let request = RangeRequest::decode(message).ok()?;
        validate::range(&request).ok()?;
        if api.shared.standing().is_learner || !(request.serializable || api.barrier.is_open()) {
            return None;
        }
        let view = api.shared.reader.view();
        let mut answer = range::read_if_small(&view, &txn::query_of(&request))?;
        answer.header = api.shared.header(answer.header.revision);
        let facts = answer.facts();
        let answer = sendable(answer.into_outgoing()).ok()?;
        let facts = Facts { bytes: answer.len(), ..facts };
        Some((answer, facts))
    }

    fn propose(
        &mut self,
        stream: u32,
        tag: u8,
        clients: Option<Duration>,
        message: Bytes,
        start: Instant,
    ) -> Option<Pending> {
        let limit = self.api.limits.request_timeout;
        if self.api.shared.standing().is_learner {
            return None;
        }
        let command = self.command(tag, message.clone())?;
        let prepared = self.api.proposer.prepare(&Caller::default(), command).ok()?;
        let pending = Pending {
            serial: prepared.serial,
            tag,
            message,
            start,
            deadline: start + clients.map_or(limit, |clients| clients.min(limit)),
            clients: clients.is_some_and(|clients| clients < limit),
        };
        self.prepared.push((stream, prepared));
        Some(pending)
    }

    fn command(&self, tag: u8, message: Bytes) -> Option<InternalRaftRequest> {
        let mut command = InternalRaftRequest::default();
        let cost = match tag {
            PUT => {
                let put = PutRequest::decode(message).ok()?;
                validate::put(&put).ok()?;
                let cost = quota::put_cost(&put);
                command.put = Some(put);
                cost
            }
            TXN => {
                let txn = TxnRequest::decode(message).ok()?;
                validate::txn(&txn, self.api.limits.txn_ops_max).ok()?;
                if txn::is_read_only(&txn) || !is_quick(&txn) {
                    return None;
                }
                let cost = quota::txn_cost(&txn);
                command.txn = Some(txn);
                cost
            }
            _ => {
                let delete = DeleteRangeRequest::decode(message).ok()?;
                validate::delete(&delete).ok()?;
                if !delete.range_end.is_empty() {
                    return None;
                }
                command.delete_range = Some(delete);
                0
            }
        };
        quota::fits(&self.api.shared, self.api.limits.quota, cost).then_some(command)
    }

    fn name_timeout(&self, pending: &Pending, error: ApiError) -> ApiError {
        context::name_timeout(error, pending.clients)
    }

    fn failed(&self, tag: u8, error: ApiError) -> Ended {
        self.failed_with(tag, error.into())
    }

    fn failed_with(&self, tag: u8, status: Status) -> Ended {
        let counted = method(&self.api.metrics.grpc, tag);
        if let Some(count) = counted.and_then(|method| method.handled.get(status.code() as usize)) {
            count.inc();
        }
        Ended::Failed(status)
    }
}

fn path(tag: u8) -> &'static str {
    usize::from(tag).checked_sub(1).and_then(|place| METHODS.get(place)).copied().unwrap_or_default()
}

/// Whether applying `txn` takes no longer than a few puts. It may be applied here, and what else comes on the connection waits.
fn is_quick(txn: &TxnRequest) -> bool {
    let is_single = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestRange(range)) => range.range_end.is_empty(),
        Some(Request::RequestDeleteRange(delete)) => delete.range_end.is_empty(),
        Some(Request::RequestTxn(_)) | None => false,
    };
    let len = txn.compare.len() + txn.success.len() + txn.failure.len();
    len <= QUICK_OPS_MAX
        && txn.compare.iter().all(|compare| compare.range_end.is_empty())
        && txn.success.iter().chain(&txn.failure).all(is_single)
}

/// The places of the methods among all.
static PLACES: LazyLock<[Option<usize>; METHODS.len()]> =
    LazyLock::new(|| METHODS.map(GrpcMetrics::index_of));

fn method(metrics: &GrpcMetrics, tag: u8) -> Option<&GrpcMethod> {
    let place = PLACES.get(usize::from(tag).checked_sub(1)?)?;
    metrics.method((*place)?)
}

//! Commands that took long to apply, ranges and transactions that took long to read, and commands that failed: a line in the log for each,
//! in etcd's words (`--warning-apply-duration`).

use std::convert::identity;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ketch_mvcc::KeyRange;
use ketch_proto::etcdserverpb::{AlarmResponse, CompactionResponse, RangeRequest, TxnRequest};
use prost::Message;

use super::{Facts, text};
use crate::api::answer::{Encode as _, OpAnswer, RangeAnswer, TxnAnswer};
use crate::api::error::ApiError;
use crate::api::{Api, range};
use crate::apply::answer::{self as applied, Answer, ApplyError, Outcome};
use crate::apply::command;
use crate::apply::observe::Observer;
use crate::clock::{Laps, Stopwatch};
use crate::config::duration_text;
use crate::metrics::{Counter, Metrics};

/// What a line says, the times aside.
struct Line<'a> {
    prefix: &'a str,
    request: &'a str,
    response: &'a str,
    error: Option<&'a str>,
}

impl Line<'_> {
    fn too_long(&self, took: Duration, limit: Duration, counter: &Counter) {
        tracing::warn!(
            took = go(took),
            "expected-duration" = go(limit),
            prefix = self.prefix,
            request = self.request,
            response = self.response,
            error = self.error,
            "apply request took too long"
        );
        counter.inc();
    }

    fn failed(&self, took: Duration) {
        let Line { request, response, error, .. } = *self;
        tracing::warn!(took = go(took), request, response, error, "failed to apply request");
    }
}

fn go(duration: Duration) -> String {
    duration_text(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Watches the commands that are applied. Each has the time from the end of the one before it; the last one of a batch also has what
/// its commit takes.
pub struct SlowCommands {
    limit: Duration,
    laps: Laps,
    metrics: Arc<Metrics>,
    /// One that is over, but for the commit.
    last: Option<(Bytes, Outcome, Duration)>,
}

impl std::fmt::Debug for SlowCommands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowCommands").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl SlowCommands {
    /// Tells of commands that take longer than `limit`.
    #[must_use]
    pub fn new(limit: Duration, metrics: Arc<Metrics>) -> SlowCommands {
        SlowCommands { limit, laps: Laps::for_limit(limit), metrics, last: None }
    }

    fn judge(&self, command: &Bytes, outcome: &Outcome, took: Duration) {
        // A revision that is compacted already is no failure.
        let failed = matches!(outcome, Err(refusal) if *refusal != ApplyError::Compacted);
        if took <= self.limit && !failed {
            return;
        }
        let Ok((_, request)) = command::decode(command) else { return };
        let response = outcome.as_ref().ok().and_then(response_bytes);
        let line = Line {
            prefix: "",
            request: &text::command(&request),
            response: &response.map_or(String::new(), |bytes| format!("size:{bytes}")),
            error: outcome.as_ref().err().copied().map(refusal_text),
        };
        if took > self.limit {
            line.too_long(took, self.limit, &self.metrics.slow_apply);
        }
        if failed {
            line.failed(took);
        }
    }

    fn settle(&mut self) {
        if let Some((command, outcome, took)) = self.last.take() {
            self.judge(&command, &outcome, took);
        }
    }
}

impl Observer for SlowCommands {
    fn begin(&mut self) {
        self.settle();
        self.laps.lap();
    }

    fn applied(&mut self, command: &Bytes, outcome: &Outcome, is_last: bool) {
        let took = self.laps.lap();
        self.settle();
        if is_last {
            self.last = Some((command.clone(), outcome.clone(), took));
        } else {
            self.judge(command, outcome, took);
        }
    }

    fn committed(&mut self) {
        if let Some((.., took)) = &mut self.last {
            *took += self.laps.lap();
            self.settle();
        }
    }
}

/// The internal errors of etcd, which lack the prefix that clients see, or have another text.
fn refusal_text(refusal: ApplyError) -> &'static str {
    match refusal {
        ApplyError::NoSpace => "etcdserver: no space",
        ApplyError::LeaseNotFound => "lease not found",
        refusal => match ApiError::from(refusal) {
            ApiError::Rpc(error) => internal(error.message()),
            _ => "",
        },
    }
}

/// etcd's store does not say whose it is.
fn internal(message: &str) -> &str {
    message.strip_prefix("etcdserver: ").filter(|rest| rest.starts_with("mvcc: ")).unwrap_or(message)
}

/// How long etcd's response is while it is inside the applier, if there is one.
fn response_bytes(answer: &Answer) -> Option<usize> {
    Some(match answer {
        Answer::Put(put) => range::put_answer(put.clone(), range::revision_only).encoded_len(),
        Answer::Delete(delete) => range::delete_answer(delete.clone(), range::revision_only).encoded_len(),
        Answer::Txn(txn) => {
            let mut txn = txn.clone();
            leave_out_large(&mut txn);
            range::complete_here(txn, identity).ok()?.encoded_len()
        }
        &Answer::Compact { revision } => {
            CompactionResponse { header: Some(range::revision_only(revision)) }.encoded_len()
        }
        Answer::Alarm(alarms) => AlarmResponse { alarms: alarms.clone(), ..Default::default() }.encoded_len(),
        Answer::Members(_) | Answer::Done => return None,
    })
}

/// A transaction's answer without the ranges that take a while to read: the applier does not wait for them.
fn leave_out_large(txn: &mut applied::TxnAnswer) {
    txn.ops.retain(|op| !matches!(op, applied::OpAnswer::Range(range) if is_large(range)));
    for op in &mut txn.ops {
        if let applied::OpAnswer::Txn(nested) = op {
            leave_out_large(nested);
        }
    }
}

fn is_large(range: &applied::PendingRange) -> bool {
    let applied::PendingRange { view, query, .. } = range;
    let is_past = query.revision > 0 && query.revision != view.revision();
    let pairs = view.count(&query.range, 0);
    !matches!(query.range, KeyRange::Single(_)) && (is_past || pairs.is_ok_and(|pairs| pairs > range::LARGE))
}

/// What is read.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) enum Read<'a> {
    Range(&'a RangeRequest),
    Txn(&'a TxnRequest),
}

/// What was found.
pub(in crate::api) trait Found {
    /// In etcd's words. The header names nothing but the revision yet.
    fn text(&self) -> String;
}

impl Found for RangeAnswer {
    fn text(&self) -> String {
        range_text(self.kvs.len(), self.encoded_len())
    }
}

impl Found for TxnAnswer {
    fn text(&self) -> String {
        let of = |op: &OpAnswer| match op {
            OpAnswer::Range(range) => Some(format!("range_response_count:{}", range.kvs.len())),
            OpAnswer::Put(_) | OpAnswer::Delete(_) | OpAnswer::Txn(_) => None,
        };
        let all: Vec<_> = self.ops.iter().filter_map(of).collect();
        format!("responses:<{}> size:{}", all.join(" "), self.encoded_len())
    }
}

fn range_text(pairs: usize, bytes: usize) -> String {
    format!("range_response_count:{pairs} size:{bytes}")
}

/// A read under way. It is looked at when it is dropped, also if the client has left.
pub(in crate::api) struct Reading<'a> {
    api: &'a Api,
    what: Read<'a>,
    watch: Stopwatch,
    ended: bool,
}

impl<'a> Reading<'a> {
    /// One that begins now.
    pub(in crate::api) fn start(api: &'a Api, what: Read<'a>) -> Reading<'a> {
        Reading { api, what, watch: Stopwatch::start(), ended: false }
    }

    /// It has ended.
    pub(in crate::api) fn end(mut self, found: Result<&impl Found, &ApiError>) {
        self.ended = true;
        let took = self.watch.elapsed();
        if took > self.api.limits.warn_apply_after {
            match found {
                Ok(found) => self.tell(took, &found.text(), None),
                Err(error) => self.tell(took, "", Some(internal(&error.to_string()))),
            }
        }
    }

    fn tell(&self, took: Duration, response: &str, error: Option<&str>) {
        let (prefix, request) = match self.what {
            Read::Range(request) => ("read-only range ", text::range(request)),
            Read::Txn(request) => ("read-only txn ", text::txn(request)),
        };
        let line = Line { prefix, request: &request, response, error };
        line.too_long(took, self.api.limits.warn_apply_after, &self.api.metrics.slow_apply);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let took = self.watch.elapsed();
        if !self.ended && took > self.api.limits.warn_apply_after {
            self.tell(took, "", Some("context canceled"));
        }
    }
}

/// Tells of a range that was read with others of its connection, which took so long together, if that is too long.
pub(in crate::api) fn report_range(api: &Api, message: &Bytes, took: Duration, facts: Facts) {
    if took <= api.limits.warn_apply_after {
        return;
    }
    let Ok(request) = RangeRequest::decode(message.clone()) else { return };
    // The header was complete already: etcd's is not yet.
    let bytes = facts.bytes.saturating_sub(api.shared.header(0).encoded_len());
    let line = Line {
        prefix: "read-only range ",
        request: &text::range(&request),
        response: &range_text(facts.pairs, bytes),
        error: None,
    };
    line.too_long(took, api.limits.warn_apply_after, &api.metrics.slow_apply);
}

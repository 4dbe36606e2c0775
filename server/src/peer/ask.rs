//! One-off questions to other members over their peer URLs, as etcd's members ask each other.
//!
//! Each question is a connection of its own; nothing here needs a running [`Network`](super::Network).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use ketch_proto::etcdserverpb as pb;
use ketch_proto::rpc_error::RpcError;
use serde::{Deserialize, Serialize};

use super::handshake::{self, CLUSTER};
use super::stream::Stream;
use crate::cluster::Member;
use crate::config::Url;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A promotion waits until it is applied over there.
const PROMOTE_TIMEOUT: Duration = Duration::from_secs(7);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An answer over HTTP.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    fn ok(self) -> Result<Answer, String> {
        if self.status.is_success() { Ok(self) } else { Err(format!("{} ({})", self.text(), self.status)) }
    }

    fn json<T: for<'a> Deserialize<'a>>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("the answer is not understood: {error}"))
    }
}

/// A question: method, path, and what else goes with it.
struct Question<'a> {
    method: Method,
    path: &'a str,
    cluster_id: Option<u64>,
    body: Vec<u8>,
    timeout: Duration,
}

impl<'a> Question<'a> {
    fn get(path: &'a str) -> Question<'a> {
        Question { method: Method::GET, path, cluster_id: None, body: Vec::new(), timeout: TIMEOUT }
    }
}

async fn ask(url: &str, question: Question<'_>) -> Result<Answer, String> {
    let timeout = question.timeout;
    tokio::time::timeout(timeout, exchange(url, question)).await.map_err(|_| "i/o timeout".to_owned())?
}

async fn exchange(url: &str, question: Question<'_>) -> Result<Answer, String> {
    let url = Url::parse(url)?;
    let stream = Stream::dial(&url).await.map_err(|error| error.to_string())?;
    let http = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Ends with `sender`.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(header::HOST, handshake::host(&url))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(id) = question.cluster_id {
        request = request.header(CLUSTER, handshake::hex(id));
    }
    let request = request.body(axum::body::Body::from(question.body)).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(http)?;
    let (parts, mut body) = answer.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend_from_slice(frame.map_err(http)?.data_ref().unwrap_or(&Bytes::new()));
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too long".into());
        }
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body: bytes.into() })
}

/// The cluster's id and members, from the first of `urls` that answers.
///
/// # Errors
/// etcd's words when nobody answers.
pub async fn members_of(urls: &[String]) -> Result<(u64, Vec<Member>), String> {
    for url in urls {
        match members_at(url).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                tracing::warn!(address = %format_args!("{url}/members"), error, "failed to get cluster response");
            }
        }
    }
    Err("could not retrieve cluster information from the given URLs".into())
}

async fn members_at(url: &str) -> Result<(u64, Vec<Member>), String> {
    let answer = ask(url, Question::get("/members")).await?.ok()?;
    let cluster_id = handshake::number(&answer.headers, &CLUSTER, 16).ok_or("the answer names no cluster")?;
    let members: Vec<Member> = answer.json()?;
    if members.is_empty() {
        // A member that has not applied its first configuration yet.
        return Err("the member knows no members".into());
    }
    Ok((cluster_id, members))
}

/// The versions that a member answers for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Versions {
    /// The version of its API.
    #[serde(rename = "etcdserver")]
    pub server: String,
    /// The cluster version as it knows it; `not_decided` before there is one.
    #[serde(rename = "etcdcluster")]
    pub cluster: String,
    /// The version of what it stores.
    #[serde(default)]
    pub storage: String,
}

/// The versions of the member at `urls`.
///
/// # Errors
/// Why the last of them gave no answer.
pub async fn version_of(urls: &[String]) -> Result<Versions, String> {
    let mut last = "the member has no URL".to_owned();
    for url in urls {
        match ask(url, Question::get("/version")).await.and_then(Answer::ok).and_then(|found| found.json()) {
            Ok(versions) => return Ok(versions),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A member's hash of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHash {
    /// The member.
    pub member_id: u64,
    /// The member's revision when it answered.
    pub revision: i64,
    /// The hash.
    pub hash: u32,
    /// The compaction point that the hash counts from.
    pub compact_revision: i64,
    /// The revision that the hash counts to.
    pub hash_revision: i64,
}

/// Why there is no hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashError {
    /// The member answered one of etcd's errors: compacted, or not there yet.
    Rpc(RpcError),
    /// It is of another cluster.
    OtherCluster,
    /// It gave no answer.
    Unreachable(String),
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => f.write_str(error.message()),
            Self::OtherCluster => f.write_str(handshake::CLUSTER_MISMATCH),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for HashError {}

/// The question of `GET /members/hashkv`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HashQuestion {
    pub(super) revision: i64,
}

/// Its answer: `HashKVResponse` as Go's `encoding/json` writes it, where zeros are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HashAnswer {
    pub(super) header: HashHeader,
    pub(super) hash: u32,
    pub(super) compact_revision: i64,
    pub(super) hash_revision: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HashHeader {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) revision: i64,
    pub(super) raft_term: u64,
}

/// The hash of the keys up to `revision` (0: the latest) at the member at `urls`, of cluster `cluster_id`.
///
/// # Errors
/// [`HashError`]; of several URLs the last one's.
pub async fn hash_of(urls: &[String], cluster_id: u64, revision: i64) -> Result<PeerHash, HashError> {
    let mut last = HashError::Unreachable("the member has no URL".into());
    for url in urls {
        match hash_at(url, cluster_id, revision).await {
            Err(HashError::Unreachable(why)) => last = HashError::Unreachable(why),
            answered => return answered,
        }
    }
    Err(last)
}

async fn hash_at(url: &str, cluster_id: u64, revision: i64) -> Result<PeerHash, HashError> {
    let body = serde_json::to_vec(&HashQuestion { revision }).unwrap_or_default();
    let question = Question { cluster_id: Some(cluster_id), body, ..Question::get("/members/hashkv") };
    let answer = ask(url, question).await.map_err(HashError::Unreachable)?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return Err(HashError::OtherCluster);
    }
    let told = [RpcError::Compacted, RpcError::FutureRev].into_iter().find(|error| is_about(&answer, *error));
    if let Some(error) = told {
        return Err(HashError::Rpc(error));
    }
    let found: HashAnswer = answer.ok().and_then(|answer| answer.json()).map_err(HashError::Unreachable)?;
    let HashAnswer { header, hash, compact_revision, hash_revision } = found;
    let HashHeader { member_id, revision, .. } = header;
    Ok(PeerHash { member_id, revision, hash, compact_revision, hash_revision })
}

/// Whether a refusal is this error, with or without the words before the error proper.
fn is_about(answer: &Answer, error: RpcError) -> bool {
    let message = error.message();
    !answer.status.is_success() && answer.text().ends_with(message.trim_start_matches("etcdserver: "))
}

/// Asks the leader at `urls` to make the learner `id` a voter. Returns the members afterwards.
///
/// # Errors
/// `Some`: the leader's verdict. `None`: nobody answered, or in words that mean nothing.
pub async fn promote(urls: &[String], id: u64) -> Result<Vec<pb::Member>, Option<RpcError>> {
    let path = format!("/members/promote/{id}");
    for url in urls {
        let question = Question { method: Method::POST, timeout: PROMOTE_TIMEOUT, ..Question::get(&path) };
        match ask(url, question).await {
            Ok(answer) => return promoted(answer),
            Err(error) => tracing::warn!(url, error, "failed to forward a promotion to the leader"),
        }
    }
    Err(None)
}

fn promoted(answer: Answer) -> Result<Vec<pb::Member>, Option<RpcError>> {
    match answer.status {
        StatusCode::OK => {
            let members: Vec<Member> = answer.json().map_err(|_| None)?;
            Ok(members.into_iter().map(to_wire).collect())
        }
        StatusCode::NOT_FOUND => Err(Some(RpcError::MemberNotFound)),
        StatusCode::REQUEST_TIMEOUT => Err(Some(RpcError::TimedOut)),
        StatusCode::PRECONDITION_FAILED => {
            let known = [RpcError::LearnerNotReady, RpcError::MemberNotLearner];
            Err(known.into_iter().find(|error| is_about(&answer, *error)))
        }
        _ => Err(RpcError::from_message(&answer.text())),
    }
}

fn to_wire(member: Member) -> pb::Member {
    let Member { id, peer_urls, is_learner, name, client_urls } = member;
    pb::Member { id, name, peer_urls, client_urls, is_learner }
}

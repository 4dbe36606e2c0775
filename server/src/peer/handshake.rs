//! The first words on a connection between members: who calls whom, of which cluster, version and start.
//!
//! A connection begins as an HTTP/1.1 request that asks to be upgraded, with etcd's headers and ours, and is refused
//! with etcd's status codes and words.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ketch_raft::NodeId;

use super::stream::Stream;
use crate::config::Url;
use crate::version;

/// What a connection is upgraded to; the number is the version of the frames.
pub(crate) const PROTOCOL: &str = "ketch-raft/1";
/// Where lanes are opened; the lane's name follows.
pub(crate) const PATH: &str = "/raft/ketch/";
/// The oldest version of etcd's peer protocol that is meant.
const MIN_CLUSTER_VERSION: &str = "3.0.0";
/// The longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

pub(crate) const FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(crate) const TO: HeaderName = HeaderName::from_static("x-raft-to");
pub(crate) const CLUSTER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(crate) const MIN_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
/// Ours: the sender's boot number.
pub(crate) const BOOT: HeaderName = HeaderName::from_static("x-ketch-boot");

/// etcd's words for the two mismatches.
pub(crate) const CLUSTER_MISMATCH: &str = "cluster ID mismatch";
pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";

/// Who this member is, in the words of the headers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) member_id: NodeId,
    pub(crate) cluster_id: u64,
    pub(crate) boot: u64,
    /// Comma list.
    pub(crate) peer_urls: String,
}

/// What a caller says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: NodeId,
    pub(crate) boot: u64,
}

/// Why a connection did not come to be.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The transport or HTTP.
    Io(io::Error),
    /// Nothing was said for too long.
    Timeout,
    /// The peer refused.
    Refused(StatusCode, String),
    /// The peer's answer is not to be understood.
    Answer(&'static str),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Refused(status, text) => write!(f, "{text} ({status})"),
            Self::Answer(why) => f.write_str(why),
        }
    }
}

/// A connection as it stands after the handshake.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// What the peer sent beyond its answer.
    pub(crate) early: BytesMut,
    /// The boot number of the peer.
    pub(crate) boot: u64,
}

/// Opens the lane `lane` to the member `to` at `url`.
pub(crate) async fn dial(
    own: &Identity,
    to: NodeId,
    url: &Url,
    lane: &str,
    timeout: Duration,
) -> Result<Opened, DialError> {
    tokio::time::timeout(timeout, open(own, to, url, lane)).await.unwrap_or(Err(DialError::Timeout))
}

async fn open(own: &Identity, to: NodeId, url: &Url, lane: &str) -> Result<Opened, DialError> {
    let stream = Stream::dial(url).await.map_err(DialError::Io)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http_error)?;
    let connection = tokio::spawn(connection.with_upgrades());
    let mut request = Request::builder()
        .uri(format!("{PATH}{lane}"))
        .header(header::HOST, host(url))
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(String::new())
        .map_err(|_| DialError::Answer("the request cannot be built"))?;
    own.introduce(request.headers_mut());
    request.headers_mut().insert(TO, hex(to));
    let answer = sender.send_request(request).await.map_err(http_error)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let text = refusal(answer).await;
        connection.abort();
        return Err(DialError::Refused(status, text));
    }
    if number(answer.headers(), &CLUSTER, 16) != Some(own.cluster_id) {
        return Err(DialError::Answer(CLUSTER_MISMATCH));
    }
    let boot = number(answer.headers(), &BOOT, 10).ok_or(DialError::Answer("the peer has no boot number"))?;
    let upgraded = hyper::upgrade::on(answer).await.map_err(http_error)?;
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| DialError::Answer("the connection is of another kind"))?;
    Ok(Opened { stream: parts.io.into_inner(), early: BytesMut::from(&parts.read_buf[..]), boot })
}

fn http_error(error: hyper::Error) -> DialError {
    DialError::Io(io::Error::other(error))
}

/// The host a request names: sockets have none.
pub(crate) fn host(url: &Url) -> String {
    if url.scheme().is_unix() { "localhost".into() } else { url.address() }
}

async fn refusal(answer: Response<Incoming>) -> String {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < REFUSAL_BYTES_MAX {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else { break };
        if let Some(data) = frame.data_ref() {
            text.extend_from_slice(data);
        }
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

impl Identity {
    /// Says who this member is.
    pub(crate) fn introduce(&self, headers: &mut HeaderMap) {
        headers.insert(FROM, hex(self.member_id));
        headers.insert(CLUSTER, hex(self.cluster_id));
        headers.insert(VERSION, HeaderValue::from_static(version::SERVER));
        headers.insert(MIN_VERSION, HeaderValue::from_static(MIN_CLUSTER_VERSION));
        headers.insert(BOOT, HeaderValue::from(self.boot));
        if let Ok(urls) = HeaderValue::from_str(&self.peer_urls) {
            headers.insert(PEER_URLS, urls);
        }
    }

    /// Checks what a caller says of cluster and version, then reads who it is.
    ///
    /// # Errors
    /// etcd's status and words.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Caller, (StatusCode, &'static str)> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (theirs, their_min) = (text(&VERSION), text(&MIN_VERSION));
        let compatible = parse(theirs) >= parse(MIN_CLUSTER_VERSION)
            && parse(their_min) <= parse(version::SERVER)
            && parse(theirs).is_some();
        if !compatible {
            return Err((StatusCode::PRECONDITION_FAILED, INCOMPATIBLE_VERSION));
        }
        if number(headers, &CLUSTER, 16) != Some(self.cluster_id) {
            return Err((StatusCode::PRECONDITION_FAILED, CLUSTER_MISMATCH));
        }
        let (Some(id), Some(boot)) = (number(headers, &FROM, 16), number(headers, &BOOT, 10)) else {
            return Err((StatusCode::NOT_FOUND, "invalid from"));
        };
        if number(headers, &TO, 16) != Some(self.member_id) {
            return Err((StatusCode::PRECONDITION_FAILED, "to field mismatch"));
        }
        Ok(Caller { id, boot })
    }
}

/// Major and minor version.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// An id as headers have it.
pub(crate) fn hex(id: u64) -> HeaderValue {
    // Hexadecimal digits are always a header value.
    HeaderValue::from_str(&format!("{id:x}")).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// A number in a header.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName, radix: u32) -> Option<u64> {
    u64::from_str_radix(headers.get(name)?.to_str().ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Identity {
        Identity { member_id: 1, cluster_id: 0xc0, boot: 7, peer_urls: "http://a:1".into() }
    }

    fn call(change: impl FnOnce(&mut HeaderMap)) -> Result<Caller, (StatusCode, &'static str)> {
        let caller = Identity { member_id: 0xab, boot: 3, ..own() };
        let mut headers = HeaderMap::new();
        caller.introduce(&mut headers);
        headers.insert(TO, hex(1));
        change(&mut headers);
        own().check(&headers)
    }

    #[test]
    fn a_caller_must_be_of_this_cluster_and_mean_this_member() {
        assert_eq!(call(|_| {}), Ok(Caller { id: 0xab, boot: 3 }));
        let refused = |status, why| Err((StatusCode::from_u16(status).unwrap(), why));
        assert_eq!(call(|h| drop(h.insert(CLUSTER, hex(0xc1)))), refused(412, CLUSTER_MISMATCH));
        assert_eq!(call(|h| drop(h.remove(CLUSTER))), refused(412, CLUSTER_MISMATCH));
        assert_eq!(call(|h| drop(h.insert(TO, hex(2)))), refused(412, "to field mismatch"));
        assert_eq!(call(|h| drop(h.remove(FROM))), refused(404, "invalid from"));
        for version in ["2.3.0", "", "x"] {
            let value = HeaderValue::from_str(version).unwrap();
            assert_eq!(call(|h| drop(h.insert(VERSION, value))), refused(412, INCOMPATIBLE_VERSION));
        }
        let newer = HeaderValue::from_static("9.0.0");
        assert_eq!(call(|h| drop(h.insert(MIN_VERSION, newer))), refused(412, INCOMPATIBLE_VERSION));
    }
}

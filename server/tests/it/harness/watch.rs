//! One watch stream to one server, driven step by step.

use std::time::{Duration, Instant};

use ketch_proto::etcdserverpb::watch_client::WatchClient;
use ketch_proto::etcdserverpb::watch_request::RequestUnion;
use ketch_proto::etcdserverpb::*;
use ketch_proto::tonic::transport::Channel;
use ketch_proto::tonic::{Status, Streaming};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon a server is asked again for progress: etcd says nothing while a watcher catches up.
const ASK_AGAIN: Duration = Duration::from_millis(40);

/// An open stream and what came in on it.
#[derive(Debug)]
pub(crate) struct WatchStream {
    requests: UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    /// In the order of arrival; whoever compares takes them.
    pub(crate) log: Vec<WatchResponse>,
}

/// Creates a watcher.
pub(crate) fn create(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

/// Cancels a watcher.
pub(crate) fn cancel(watch_id: i64) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) }
}

/// Asks how far all watchers of the stream are.
pub(crate) fn progress() -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) }
}

/// Whether a response only says how far the stream is.
pub(crate) fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty() && !response.created && !response.canceled
}

/// The revision in a response's header.
pub(crate) fn revision(response: &WatchResponse) -> i64 {
    response.header.unwrap_or_default().revision
}

impl WatchStream {
    /// Opens a stream with its first request: a server may say nothing at all before that.
    pub(crate) async fn open(channel: Channel, first: WatchRequest) -> Result<WatchStream, Status> {
        let (requests, outgoing) = unbounded_channel();
        requests.send(first).unwrap();
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.watch(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
        Ok(WatchStream { requests, responses, log: Vec::new() })
    }

    pub(crate) fn send(&self, request: WatchRequest) {
        // A server that ended the stream shows that to the reader.
        let _ = self.requests.send(request);
    }

    /// The next response, or why there is none any more.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Status> {
        match self.responses.message().await? {
            Some(response) => Ok(response),
            None => Err(Status::ok("the stream ended")),
        }
    }

    /// Reads until the log has a response that is `wanted`, looking from `from` on; its place in the log.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        from: usize,
        mut wanted: impl FnMut(&WatchResponse) -> bool,
    ) -> usize {
        let mut next = from;
        loop {
            while let Some(response) = self.log.get(next) {
                if wanted(response) {
                    return next;
                }
                next += 1;
            }
            match timeout(PATIENCE, self.next()).await {
                Ok(Ok(response)) => self.log.push(response),
                Ok(Err(status)) => panic!("no {what}: {status:?}; after {:#?}", self.log),
                Err(_) => panic!("no {what} in {PATIENCE:?}; after {:#?}", self.log),
            }
        }
    }

    /// Asks for progress until it is stated: every watcher of the stream has then caught up. Returns how often
    /// it asked; a server may answer the earlier ones too, later.
    pub(crate) async fn synced(&mut self) -> u32 {
        let mut next = self.log.len();
        let mut asked = 0;
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "not synced in {PATIENCE:?}, asked {asked} times");
            self.send(progress());
            asked += 1;
            while let Ok(response) = timeout(ASK_AGAIN, self.next()).await {
                self.log.push(response.unwrap());
                while let Some(response) = self.log.get(next) {
                    if is_progress(response) && response.watch_id == -1 {
                        return asked;
                    }
                    next += 1;
                }
            }
        }
    }
}

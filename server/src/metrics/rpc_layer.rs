//! Counts RPCs where they enter and leave, whatever handler answers them.
//!
//! A layer around the gRPC services: it knows a call by its path, counts messages and bytes by walking the
//! five-byte heads of gRPC frames as they pass, and takes the outcome from the status in the headers or trailers.
//! A call whose caller goes away is counted as `Canceled` when it is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::Metrics;
use super::grpc::{CANCELED, CODES, GrpcMethod, GrpcMetrics, UNKNOWN};
use crate::clock::Stopwatch;

/// Wraps services in [`CountRpcs`].
#[derive(Clone)]
pub struct CountRpcsLayer {
    metrics: Arc<Metrics>,
}

impl CountRpcsLayer {
    /// Counts into `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for CountRpcsLayer {
    type Service = CountRpcs<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountRpcs { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// A service whose RPCs are counted.
#[derive(Clone)]
pub struct CountRpcs<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<Request<B>> for CountRpcs<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<R>>,
{
    type Response = Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = GrpcMetrics::index_of(request.uri().path()).map(|index| Call::start(&self.metrics, index));
        let of_request = call
            .as_ref()
            .map(|call| Passing::Request { metrics: Arc::clone(&call.metrics), index: call.index });
        let request = request.map(|inner| CountedBody::new(inner, of_request));
        CountedFuture { inner: self.inner.call(request), call }
    }
}

/// A call under way. Dropping it without a status counts it as canceled.
struct Call {
    metrics: Arc<Metrics>,
    index: usize,
    ended: bool,
    /// Where times are measured.
    watch: Option<Stopwatch>,
}

impl Call {
    fn start(metrics: &Arc<Metrics>, index: usize) -> Self {
        let mut call = Self { metrics: Arc::clone(metrics), index, ended: false, watch: None };
        if let Some(method) = call.method() {
            method.started.inc();
            call.watch = method.handling.is_some().then(Stopwatch::start);
        }
        call
    }

    fn method(&self) -> Option<&GrpcMethod> {
        self.metrics.grpc.method(self.index)
    }

    fn end(&mut self, code: usize) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let Some(method) = self.method() else { return };
        if let Some(count) = method.handled.get(code) {
            count.inc();
        }
        if let (Some(handling), Some(watch)) = (&method.handling, self.watch) {
            handling.observe(watch.elapsed());
        }
    }

    /// Ends the call if the headers or trailers say how it went.
    fn end_by(&mut self, headers: &HeaderMap) {
        let Some(status) = headers.get("grpc-status") else { return };
        let code = status.to_str().ok().and_then(|text| text.parse().ok()).filter(|code| *code < CODES.len());
        self.end(code.unwrap_or(UNKNOWN));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}

pin_project! {
    /// The answer of a counted call.
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, R, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<CountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(context));
        let mut call = this.call.take();
        Poll::Ready(match result {
            Ok(response) => {
                if let Some(call) = &mut call {
                    call.end_by(response.headers());
                }
                Ok(response.map(|inner| CountedBody::new(inner, call.map(|call| Passing::Answer { call }))))
            }
            Err(error) => {
                if let Some(call) = &mut call {
                    call.end(UNKNOWN);
                }
                Err(error)
            }
        })
    }
}

/// What passes through a body.
enum Passing {
    Request { metrics: Arc<Metrics>, index: usize },
    Answer { call: Call },
}

impl Passing {
    fn count(&self, messages: u64, bytes: u64) {
        match self {
            Self::Request { metrics, index } => {
                if let Some(method) = metrics.grpc.method(*index) {
                    method.received.add(messages);
                }
                metrics.grpc.received_bytes.add(bytes);
            }
            Self::Answer { call } => {
                if let Some(method) = call.method() {
                    method.sent.add(messages);
                }
                call.metrics.grpc.sent_bytes.add(bytes);
            }
        }
    }
}

pin_project! {
    /// A body whose gRPC messages are counted as they pass.
    pub struct CountedBody<B> {
        #[pin]
        inner: B,
        frames: Frames,
        passing: Option<Passing>,
    }
}

impl<B> CountedBody<B> {
    fn new(inner: B, passing: Option<Passing>) -> Self {
        Self { inner, frames: Frames::default(), passing }
    }
}

impl<B: Body<Data = Bytes>> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        if let (Some(Ok(frame)), Some(passing)) = (&frame, this.passing.as_mut()) {
            if let Some(data) = frame.data_ref() {
                let (messages, bytes) = this.frames.walk(data);
                passing.count(messages, bytes);
            } else if let (Some(trailers), Passing::Answer { call }) = (frame.trailers_ref(), passing) {
                call.end_by(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where in the sequence of gRPC frames (one flag byte, four length bytes, the message) a body is.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 5],
    head_len: usize,
    message_left: usize,
}

impl Frames {
    /// Takes the next chunk; returns how many messages began in it and how many message bytes it holds.
    fn walk(&mut self, mut chunk: &[u8]) -> (u64, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while !chunk.is_empty() {
            if self.message_left > 0 {
                let part = self.message_left.min(chunk.len());
                self.message_left -= part;
                bytes += part as u64;
                chunk = &chunk[part..];
                continue;
            }
            let part = (self.head.len() - self.head_len).min(chunk.len());
            self.head[self.head_len..self.head_len + part].copy_from_slice(&chunk[..part]);
            self.head_len += part;
            chunk = &chunk[part..];
            if self.head_len == self.head.len() {
                let [_flag, a, b, c, d] = self.head;
                self.message_left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.head_len = 0;
                messages += 1;
            }
        }
        (messages, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut wire = Vec::new();
        for message in [&b"hello"[..], b"", b"worlds"] {
            wire.push(0);
            wire.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            wire.extend_from_slice(message);
        }
        for cut in 1..=wire.len() {
            let mut frames = Frames::default();
            let mut total = (0, 0);
            for chunk in wire.chunks(cut) {
                let (messages, bytes) = frames.walk(chunk);
                total = (total.0 + messages, total.1 + bytes);
            }
            assert_eq!(total, (3, 11), "cut at {cut}");
        }
    }

    fn handled(metrics: &Metrics, code: usize) -> u64 {
        metrics.grpc.methods_for_tests("/etcdserverpb.KV/Put").handled[code].get()
    }

    #[test]
    fn every_call_ends_once() {
        let metrics = Arc::new(Metrics::new());
        let index = GrpcMetrics::index_of("/etcdserverpb.KV/Put").unwrap();
        drop(Call::start(&metrics, index));
        assert_eq!(handled(&metrics, CANCELED), 1);
        let mut call = Call::start(&metrics, index);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "11".parse().unwrap());
        call.end_by(&trailers);
        call.end_by(&trailers);
        drop(call);
        assert_eq!((handled(&metrics, 11), handled(&metrics, CANCELED)), (1, 1));
        assert_eq!(metrics.grpc.methods_for_tests("/etcdserverpb.KV/Put").started.get(), 2);
    }

    /// One chunk, then trailers.
    struct Answer(Vec<Frame<Bytes>>);

    impl Body for Answer {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    #[test]
    fn a_call_through_the_layer() {
        let metrics = Arc::new(Metrics::new());
        let inner = tower::service_fn(async |request: Request<CountedBody<Answer>>| {
            axum::body::to_bytes(axum::body::Body::new(request.into_body()), usize::MAX).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let data = Bytes::from_static(b"\0\0\0\0\x03abc");
            Ok::<_, std::convert::Infallible>(Response::new(Answer(vec![
                Frame::trailers(trailers),
                Frame::data(data),
            ])))
        });
        let mut service = CountRpcsLayer::new(Arc::clone(&metrics)).layer(inner);
        let sent = Answer(vec![Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"))]);
        let request = Request::builder().uri("/etcdserverpb.KV/Put").body(sent).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let response = service.call(request).await.unwrap();
            assert_eq!(handled(&metrics, 0), 0, "not ended before its trailers");
            axum::body::to_bytes(axum::body::Body::new(response.into_body()), usize::MAX).await.unwrap();
        });
        let put = metrics.grpc.methods_for_tests("/etcdserverpb.KV/Put");
        assert_eq!([put.started.get(), put.received.get(), put.sent.get(), handled(&metrics, 0)], [1; 4]);
        assert_eq!((metrics.grpc.received_bytes.get(), metrics.grpc.sent_bytes.get()), (2, 3));
        assert_eq!(handled(&metrics, CANCELED), 0);
    }
}

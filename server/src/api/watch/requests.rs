//! Request messages out of the body of the call: gRPC's frames of a flag, four bytes of length and a message.

use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use ketch_proto::etcdserverpb::WatchRequest;
use prost::Message;
use tonic::{Code, Status};

use crate::grpc::HEAD_BYTES;
use crate::grpc::encoding::Encoding;
use crate::grpc::request::too_large;

/// Reads requests as they come. An idle one holds no buffer.
pub struct Requests<B> {
    body: Pin<Box<B>>,
    buffer: BytesMut,
    message_bytes_max: usize,
    encoding: Encoding,
    over: bool,
}

impl<B> Requests<B>
where
    B: http_body::Body<Data = Bytes>,
{
    /// The requests in `body`, none of them larger than `message_bytes_max`; those compressed are of `encoding`.
    pub fn new(body: B, encoding: Encoding, message_bytes_max: usize) -> Requests<B> {
        Requests { body: Box::pin(body), buffer: BytesMut::new(), message_bytes_max, encoding, over: false }
    }

    /// The next request. `None` once the client has said that no more come: the call may go on.
    ///
    /// # Errors
    /// The status that ends the call: what came is no request, or the client is gone.
    pub fn poll_next(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<WatchRequest, Status>>> {
        loop {
            if let Some(request) = self.decode().transpose() {
                return Poll::Ready(Some(request));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.body.as_mut().poll_frame(task)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => {
                    return Poll::Ready(Some(Err(Status::new(Code::Cancelled, "context canceled"))));
                }
                None => self.over = true,
            }
        }
    }

    fn decode(&mut self) -> Result<Option<WatchRequest>, Status> {
        let Some((&[flag, a, b, c, d], _)) = self.buffer.split_first_chunk() else { return Ok(None) };
        if flag != 0 {
            self.encoding.check()?;
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.message_bytes_max {
            return Err(too_large(len, self.message_bytes_max));
        }
        if self.buffer.len() < HEAD_BYTES + len {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let mut message = self.buffer.split_to(len).freeze();
        if flag != 0 {
            message = self.encoding.inflate(&message, self.message_bytes_max)?;
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        let request = WatchRequest::decode(message);
        request
            .map(Some)
            .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::Waker;

    use http_body::Frame;
    use ketch_proto::etcdserverpb::{WatchCancelRequest, watch_request::RequestUnion};

    use super::*;

    struct Chunks(VecDeque<Bytes>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Task<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn cancel(watch_id: i64) -> WatchRequest {
        WatchRequest { request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) }
    }

    fn read_all(chunks: VecDeque<Bytes>) -> Vec<Result<WatchRequest, Code>> {
        let mut requests = Requests::new(Chunks(chunks), Encoding::Identity, 100);
        let mut task = Task::from_waker(Waker::noop());
        let mut found = Vec::new();
        while let Poll::Ready(Some(request)) = requests.poll_next(&mut task) {
            let failed = request.is_err();
            found.push(request.map_err(|status| status.code()));
            if failed {
                break;
            }
        }
        found
    }

    #[test]
    fn requests_are_found_however_they_are_cut() {
        let mut wire = Vec::new();
        let sent: Vec<WatchRequest> = [0, 5, 700].map(cancel).into();
        for request in &sent {
            wire.push(0);
            wire.extend_from_slice(&u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
            request.encode(&mut wire).unwrap();
        }
        for cut in 1..=wire.len() {
            let chunks = wire.chunks(cut).map(Bytes::copy_from_slice).collect();
            let found: Vec<_> = read_all(chunks).into_iter().map(Result::unwrap).collect();
            assert_eq!(found, sent, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_request_ends_the_call() {
        let end = |wire: &'static [u8]| read_all([Bytes::from_static(wire)].into());
        assert_eq!(end(&[1, 0, 0, 0, 0]), [Err(Code::Internal)]);
        assert_eq!(end(&[0, 0, 0, 0, 101]), [Err(Code::ResourceExhausted)]);
        assert_eq!(end(&[0, 0, 0, 0, 1, 0xff]), [Err(Code::Internal)]);
        assert!(end(&[0, 0, 0]).is_empty());
    }
}

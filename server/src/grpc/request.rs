//! The one message of a unary request.

use std::future::poll_fn;
use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use tonic::{Code, Status};

use super::HEAD_BYTES;
use super::encoding::Encoding;

/// Reads the message of a request that has exactly one, of at most `max` bytes.
///
/// # Errors
/// What gRPC-Go answers in its place: RESOURCE_EXHAUSTED above the limit, UNIMPLEMENTED for an encoding not spoken here,
/// INTERNAL for a body that is not one message, CANCELED when the client goes away.
pub async fn message<B>(headers: &HeaderMap, body: B, max: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut read = Read { first: Bytes::new(), rest: BytesMut::new() };
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|_gone| Status::cancelled("context canceled"))?;
        if let Ok(data) = frame.into_data() {
            read.push(data);
            read.check(headers, max)?;
        }
    }
    read.finish(headers, max)
}

/// The refusal of a message of `len` bytes where `max` are allowed.
pub(crate) fn too_large(len: usize, max: usize) -> Status {
    Status::new(Code::ResourceExhausted, format!("grpc: received message larger than max ({len} vs. {max})"))
}

/// What has come of the message. As a rule it comes in one piece, which is then used as it is.
struct Read {
    first: Bytes,
    rest: BytesMut,
}

impl Read {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            let first = std::mem::take(&mut self.first);
            // A length that a client names is trusted only as far as bytes have come.
            self.rest.reserve(first.len() + data.len());
            self.rest.extend_from_slice(&first);
        }
        self.rest.extend_from_slice(&data);
    }

    fn bytes(&self) -> &[u8] {
        if self.rest.is_empty() { &self.first } else { &self.rest }
    }

    /// The length that the head names, once the head is there.
    fn wanted(&self) -> Option<(bool, usize)> {
        let mut head = self.bytes().get(..HEAD_BYTES)?;
        let compressed = head.get_u8() != 0;
        Some((compressed, usize::try_from(head.get_u32()).unwrap_or(usize::MAX)))
    }

    /// Refuses as early as possible.
    fn check(&self, headers: &HeaderMap, max: usize) -> Result<(), Status> {
        let Some((compressed, len)) = self.wanted() else { return Ok(()) };
        if compressed {
            Encoding::of(headers).check()?;
        }
        if len > max {
            return Err(too_large(len, max));
        }
        if self.bytes().len() - HEAD_BYTES > len {
            return Err(Status::internal("a unary request has more than one message"));
        }
        Ok(())
    }

    fn finish(mut self, headers: &HeaderMap, max: usize) -> Result<Bytes, Status> {
        let compressed = match self.wanted() {
            Some((compressed, len)) if self.bytes().len() == HEAD_BYTES + len => compressed,
            None if self.bytes().is_empty() => {
                return Err(Status::internal("a unary request has no message"));
            }
            _ => return Err(Status::internal("a request ends within its message")),
        };
        let mut whole = if self.rest.is_empty() { self.first } else { self.rest.split().freeze() };
        whole.advance(HEAD_BYTES);
        if compressed { Encoding::of(headers).inflate(&whole, max) } else { Ok(whole) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use http_body::Frame;

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn read(bytes: &[u8], piece: usize, max: usize) -> Result<Bytes, Code> {
        let pieces = Pieces(bytes.chunks(piece).map(Bytes::copy_from_slice).collect());
        let headers = HeaderMap::new();
        let mut reading = pin!(message(&headers, pieces, max));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.map_err(|status| status.code()),
            Poll::Pending => unreachable!("every piece is there"),
        }
    }

    #[test]
    fn a_message_may_come_in_any_pieces() {
        let bytes = [&[0, 0, 0, 0, 7][..], b"message"].concat();
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece, 7).as_deref(), Ok(&b"message"[..]), "pieces of {piece}");
        }
        assert_eq!(read(&[0; 5], 5, 0).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        let message = [&[0, 0, 0, 0, 7][..], b"message"].concat();
        for piece in 1..=message.len() {
            assert_eq!(read(&message, piece, 6), Err(Code::ResourceExhausted));
            assert_eq!(read(&message[..11], piece, 7), Err(Code::Internal));
            assert_eq!(read(&[&message[..], &[0]].concat(), piece, 7), Err(Code::Internal));
            assert_eq!(read(&[&[1], &message[1..]].concat(), piece, 7), Err(Code::Internal));
        }
        assert_eq!(read(&[], 1, 7), Err(Code::Internal));
        assert_eq!(read(&[0xff; 5], 5, 7), Err(Code::Internal));
        assert_eq!(read(&[0, 0xff, 0xff, 0xff, 0xff], 1, 7), Err(Code::ResourceExhausted));
    }
}

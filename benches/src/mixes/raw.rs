//! Messages as bytes: what a server sends is taken without decoding or even copying it, so that the generator costs as little as
//! possible of the cores it shares with the server.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use http_body::{Body as _, Frame};
use ketch_proto::tonic::Status;
use ketch_proto::tonic::body::Body;
use ketch_proto::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use ketch_proto::tonic::codegen::{Service as _, http};
use ketch_proto::tonic::transport::Channel;

/// Takes and gives encoded messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A body of one piece.
struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Sends `request` to the method at `path` and counts the bytes of the answer, which are dropped as they come: no message is put
/// together.
///
/// # Errors
/// The call fails.
pub(super) async fn call(channel: &Channel, path: &str, request: &[u8]) -> io::Result<u64> {
    let mut framed = vec![0];
    framed.put_u32(u32::try_from(request.len()).map_err(io::Error::other)?);
    framed.put_slice(request);
    let request = http::Request::post(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Once(Some(framed.into()))))
        .map_err(io::Error::other)?;
    let mut channel = channel.clone();
    poll_fn(|context| channel.poll_ready(context)).await.map_err(io::Error::other)?;
    let response = channel.call(request).await.map_err(io::Error::other)?;
    let mut status = Status::from_header_map(response.headers());
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(io::Error::other)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        status = frame.trailers_ref().map_or(status, Status::from_header_map);
    }
    match status {
        Some(status) if status.code() == ketch_proto::tonic::Code::Ok => Ok(bytes),
        other => Err(io::Error::other(format!("{path}: {other:?}"))),
    }
}

/// What stands before the time in a value.
const MARK: &[u8] = b"@@sent@@";

/// A value of `len` bytes that tells when it was made.
pub(super) fn stamped(len: usize) -> Vec<u8> {
    let mut value = MARK.to_vec();
    value.extend_from_slice(&now().to_be_bytes());
    value.resize(len.max(value.len()), b'v');
    value
}

/// How old each stamped value in `message` is: a `WatchResponse` with events (field 11), each with a pair (field 2) whose value
/// (field 5) is stamped. Walked field by field: looking at every byte would cost more than what is measured.
pub(super) fn ages(message: &[u8]) -> impl Iterator<Item = Duration> + '_ {
    let now = now();
    fields(message, 11).filter_map(move |event| {
        let value = fields(fields(event, 2).next()?, 5).next()?;
        let stamp = value.strip_prefix(MARK)?.first_chunk::<8>()?;
        Some(Duration::from_nanos(now.saturating_sub(u64::from_be_bytes(*stamp))))
    })
}

/// The contents of the fields `wanted` of a message that have a length.
fn fields(mut message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            let len = match tag & 7 {
                0 => {
                    varint(&mut message)?;
                    continue;
                }
                2 => usize::try_from(varint(&mut message)?).ok()?,
                _ => return None,
            };
            let (field, rest) = message.split_at_checked(len)?;
            message = rest;
            if tag >> 3 == wanted {
                return Some(field);
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn now() -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BASE.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ketch_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use ketch_proto::mvccpb::{Event, KeyValue};
    use ketch_proto::prost::Message;

    use super::*;

    #[test]
    fn every_stamp_of_a_message_is_found() {
        let event = |value: Vec<u8>| {
            let kv = KeyValue { key: "k".into(), value: value.into(), version: 300, ..Default::default() };
            Event { kv: Some(kv), ..Default::default() }
        };
        let events =
            vec![event(stamped(64)), event(b"@@sent@".to_vec()), event(stamped(20)), event(Vec::new())];
        let header = Some(ResponseHeader { revision: 7, ..Default::default() });
        let message = WatchResponse { header, watch_id: 900, events, ..Default::default() }.encode_to_vec();
        assert_eq!(ages(&message).count(), 2);
        assert!(ages(&message).all(|age| age < Duration::from_secs(60)));
        for cut in 0..message.len() {
            assert!(ages(&message[..cut]).count() <= 2);
        }
    }
}

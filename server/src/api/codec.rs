//! The gRPC codec of the KV service: requests by prost, answers by [`WireAnswer`].

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::answer::WireAnswer;

/// What an answer's buffer begins with. Most answers are small; larger ones reserve what they need.
const BUFFER_BYTES: usize = 512;
/// How much may be buffered before it is handed to the connection.
const YIELD_BYTES: usize = 64 << 10;

/// Decodes `Q` and encodes `A`.
#[derive(Debug)]
pub struct AnswerCodec<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Default for AnswerCodec<Q, A> {
    fn default() -> Self {
        AnswerCodec(PhantomData)
    }
}

impl<Q: Message + Default + 'static, A: WireAnswer> Codec for AnswerCodec<Q, A> {
    type Encode = A;
    type Decode = Q;
    type Encoder = AnswerEncoder<A>;
    type Decoder = RequestDecoder<Q>;

    fn encoder(&mut self) -> Self::Encoder {
        AnswerEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

/// See [`AnswerCodec`].
#[derive(Debug)]
pub struct AnswerEncoder<A>(PhantomData<fn(A)>);

impl<A: WireAnswer> Encoder for AnswerEncoder<A> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, item: A, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.encoded_len());
        item.encode(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// See [`AnswerCodec`].
#[derive(Debug)]
pub struct RequestDecoder<Q>(PhantomData<fn() -> Q>);

impl<Q: Message + Default> Decoder for RequestDecoder<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        Q::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

//! Messages as bytes: what a server sends is taken without decoding it, so that the generator costs as little as possible
//! of the cores it shares with the server.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ketch_proto::tonic::Status;
use ketch_proto::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Takes and gives encoded messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
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
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf as _;
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
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

/// How old each stamped value in `message` is.
pub(super) fn ages(message: &[u8]) -> impl Iterator<Item = Duration> + '_ {
    let now = now();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = message.get(at..at + MARK.len()) {
            if found == MARK {
                let stamp = message.get(at + MARK.len()..at + MARK.len() + 8)?;
                at += MARK.len() + 8;
                let sent = stamp.iter().fold(0, |sent, byte| sent << 8 | u64::from(*byte));
                return Some(Duration::from_nanos(now.saturating_sub(sent)));
            }
            at += 1;
        }
        None
    })
}

fn now() -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BASE.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stamp_of_a_message_is_found() {
        let message = [&b"@@@"[..], &stamped(64), b"@@sent@", &stamped(20), b"@@sent@@"].concat();
        assert_eq!(ages(&message).count(), 2);
        assert!(ages(&message).all(|age| age < Duration::from_secs(60)));
    }
}

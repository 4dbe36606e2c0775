//! Compressed messages: clients may send gzip, as to etcd. Answers are never compressed.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use tonic::{Code, Status};

/// What the call's `grpc-encoding` says of messages whose flag says "compressed".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoding {
    /// There is none.
    Identity,
    /// RFC 1952.
    Gzip,
    /// One that is not spoken here.
    Other(String),
}

impl Encoding {
    /// The encoding that a call's headers name.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Encoding {
        match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"" | b"identity") => Encoding::Identity,
            Some(b"gzip") => Encoding::Gzip,
            Some(other) => Encoding::Other(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// Refuses a compressed message that cannot be read, before it is.
    ///
    /// # Errors
    /// gRPC-Go's words and codes.
    pub fn check(&self) -> Result<(), Status> {
        match self {
            Encoding::Gzip => Ok(()),
            Encoding::Identity => {
                Err(Status::internal("grpc: compressed flag set with identity or empty encoding"))
            }
            Encoding::Other(name) => {
                let why = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                Err(Status::new(Code::Unimplemented, why))
            }
        }
    }

    /// The message that `compressed` holds, of at most `max` bytes: no more than that is ever made of it.
    ///
    /// # Errors
    /// It is larger, or not of this encoding.
    pub fn inflate(&self, compressed: &[u8], max: usize) -> Result<Bytes, Status> {
        self.check()?;
        let mut message = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let read = MultiGzDecoder::new(compressed).take(limit).read_to_end(&mut message);
        read.map_err(|error| Status::internal(format!("grpc: failed to decompress the message: {error}")))?;
        if message.len() > max {
            let why = format!("grpc: received message after decompression larger than max {max}");
            return Err(Status::new(Code::ResourceExhausted, why));
        }
        Ok(message.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_message_is_inflated_up_to_its_limit() {
        let message = vec![b'a'; 1 << 20];
        let small = gzip(&message);
        assert!(small.len() < 4096);
        assert_eq!(Encoding::Gzip.inflate(&small, 1 << 20).unwrap(), message);
        let code = |result: Result<Bytes, Status>| result.unwrap_err().code();
        assert_eq!(code(Encoding::Gzip.inflate(&small, (1 << 20) - 1)), Code::ResourceExhausted);
        assert_eq!(code(Encoding::Gzip.inflate(&small[..small.len() - 1], 1 << 20)), Code::Internal);
        assert_eq!(code(Encoding::Gzip.inflate(b"no gzip", 100)), Code::Internal);
        assert_eq!(code(Encoding::Identity.inflate(&small, 100)), Code::Internal);
        assert_eq!(code(Encoding::Other("snappy".into()).inflate(&small, 100)), Code::Unimplemented);
    }
}

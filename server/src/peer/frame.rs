//! Frames: what goes over a peer connection once it stands.
//!
//! ```text
//! frame   length u32 LE │ crc32 u32 LE │ kind u8 │ body        length and crc cover kind and body
//! ```
//!
//! A frame that is too long, of an unknown kind or whose checksum differs ends the connection: after it nothing on
//! that connection can be trusted.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec::Pieces;

/// Bytes before a frame's kind.
const HEAD: usize = 8;
/// The longest frame. An append holds at least one entry, and operators may raise the limit of requests.
pub(crate) const FRAME_BYTES_MAX: usize = 512 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A raft message.
    Message = 1,
    /// Eight bytes, to be sent back.
    Ping = 2,
    /// The eight bytes.
    Pong = 3,
    /// What the receiver of a snapshot has already: the sender goes on from there, if it can.
    Held = 4,
    /// A chunk of a snapshot.
    Chunk = 5,
    /// So many bytes of chunks have been taken in (u64 LE).
    Taken = 6,
    /// The snapshot is complete and durable at the receiver.
    Done = 7,
    /// The receiver does not take the snapshot; why, in words.
    Refused = 8,
    /// The receiver is taking in another snapshot, or this one over an earlier connection.
    Busy = 9,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Message,
            2 => Kind::Ping,
            3 => Kind::Pong,
            4 => Kind::Held,
            5 => Kind::Chunk,
            6 => Kind::Taken,
            7 => Kind::Done,
            8 => Kind::Refused,
            9 => Kind::Busy,
            _ => return None,
        })
    }
}

/// Why a connection's bytes are not frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// An impossible length in bytes.
    Length(usize),
    /// The checksum differs.
    Damaged,
    /// A kind that this version does not know.
    UnknownKind(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "a frame with an impossible length of {len} bytes"),
            Self::Damaged => f.write_str("a damaged frame"),
            Self::UnknownKind(kind) => write!(f, "a frame of unknown kind {kind}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Frames that wait to be written, as the pieces that a vectored write takes.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    ready: VecDeque<Bytes>,
    /// Frames of small pieces, one behind the other.
    open: BytesMut,
    bytes: usize,
    frames: usize,
}

impl Outgoing {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that were added since this was last empty.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a frame whose body `fill` writes.
    pub(crate) fn push(&mut self, kind: Kind, fill: impl FnOnce(&mut Pieces)) {
        let start = self.open.len();
        let mut body = Pieces { encoded: std::mem::take(&mut self.open), spliced: Vec::new() };
        body.encoded.put_bytes(0, HEAD);
        body.encoded.put_u8(kind as u8);
        fill(&mut body);
        let before = start;
        let len = body.len() - before - HEAD;
        let crc = checksum(&body, start + HEAD);
        body.encoded[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
        body.encoded[start + 4..start + HEAD].copy_from_slice(&crc.to_le_bytes());
        let mut cut = 0;
        for (at, payload) in body.spliced {
            self.ready.push_back(body.encoded.split_to(at - cut).freeze());
            self.ready.push_back(payload);
            cut = at;
        }
        self.open = body.encoded;
        self.bytes += HEAD + len;
        self.frames += 1;
    }

    /// Closes what is open, so that all pieces can be written.
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.ready.push_back(self.open.split().freeze());
        }
    }

    /// Everything as one piece, for what is small.
    pub(crate) fn into_bytes(mut self) -> BytesMut {
        self.seal();
        let mut out = BytesMut::with_capacity(self.bytes);
        self.ready.iter().for_each(|piece| out.put_slice(piece));
        out
    }

    /// The pieces, in order.
    pub(crate) fn into_pieces(mut self) -> VecDeque<Bytes> {
        self.seal();
        self.ready
    }

    /// The pieces for one write.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, piece) in into.iter_mut().zip(&self.ready) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// So many bytes were written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.ready.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.ready.pop_front();
        }
        if self.bytes == 0 {
            self.frames = 0;
        }
    }
}

/// The checksum of a frame's kind and body, which begin at `from` of what is encoded.
fn checksum(body: &Pieces, from: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = from;
    for (place, payload) in &body.spliced {
        hasher.update(&body.encoded[at..*place]);
        hasher.update(payload);
        at = *place;
    }
    hasher.update(&body.encoded[at..]);
    hasher.finalize()
}

/// Takes the next whole frame out of `buffer`; `None` when more bytes must come.
///
/// # Errors
/// Bytes that are no frame.
pub(crate) fn next_frame(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, FrameError> {
    let Some((head, rest)) = buffer.split_at_checked(HEAD) else { return Ok(None) };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if len == 0 || len > FRAME_BYTES_MAX {
        return Err(FrameError::Length(len));
    }
    let Some(content) = rest.get(..len) else { return Ok(None) };
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if crc32fast::hash(content) != crc {
        return Err(FrameError::Damaged);
    }
    let kind = Kind::of(content[0]).ok_or(FrameError::UnknownKind(content[0]))?;
    let mut frame = buffer.split_to(HEAD + len).freeze();
    frame.advance(HEAD + 1);
    Ok(Some((kind, frame)))
}

/// Bytes of the frame at the head of `buffer` that are still to come, as far as its head tells.
pub(crate) fn missing(buffer: &[u8]) -> usize {
    match buffer.first_chunk::<4>() {
        Some(len) => (HEAD + u32::from_le_bytes(*len) as usize).saturating_sub(buffer.len()),
        None => HEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &[u8]) -> impl FnOnce(&mut Pieces) + '_ {
        |pieces| pieces.encoded.put_slice(bytes)
    }

    fn drain(outgoing: &mut Outgoing, step: usize) -> BytesMut {
        let mut out = BytesMut::new();
        outgoing.seal();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = outgoing.slices(&mut slices);
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let written = all.len().min(step);
            out.put_slice(&all[..written]);
            outgoing.advance(written);
        }
        out
    }

    fn two_frames() -> Outgoing {
        let mut outgoing = Outgoing::default();
        outgoing.push(Kind::Ping, put(b"12345678"));
        outgoing.push(Kind::Message, |pieces| {
            pieces.encoded.put_slice(b"head");
            pieces.spliced.push((pieces.encoded.len(), Bytes::from_static(b"payload")));
            pieces.encoded.put_slice(b"tail");
        });
        outgoing
    }

    #[test]
    fn frames_come_back_however_they_are_cut() {
        for step in [1, 7, 1000] {
            let mut outgoing = two_frames();
            assert_eq!((outgoing.frames(), outgoing.bytes()), (2, 8 + 9 + 8 + 16));
            let mut buffer = drain(&mut outgoing, step);
            assert_eq!(outgoing.frames(), 0);
            let ping = (Kind::Ping, Bytes::from_static(b"12345678"));
            assert_eq!(next_frame(&mut buffer), Ok(Some(ping)));
            let message = (Kind::Message, Bytes::from_static(b"headpayloadtail"));
            assert_eq!(next_frame(&mut buffer), Ok(Some(message)));
            assert_eq!(next_frame(&mut buffer), Ok(None));
        }
    }

    #[test]
    fn every_damaged_byte_is_seen() {
        let whole = drain(&mut two_frames(), 1000);
        for at in 0..whole.len() {
            let mut buffer = whole.clone();
            buffer[at] ^= 0x10;
            let mut taken = 0;
            while let Ok(Some(_)) = next_frame(&mut buffer) {
                taken += 1;
            }
            assert!(taken < 2, "a flip at {at}");
        }
    }

    #[test]
    fn a_cut_frame_waits_for_its_rest() {
        let whole = drain(&mut two_frames(), 1000);
        for len in 0..17 {
            let mut buffer = BytesMut::from(&whole[..len]);
            assert_eq!(next_frame(&mut buffer), Ok(None));
            assert_eq!(missing(&buffer), if len < 4 { HEAD } else { 17 - len });
        }
    }
}

//! Frames of HTTP/2: their heads, and the small ones that a server sends (RFC 9113, sections 4 and 6). Pure bytes.

/// What a connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 9;
/// The largest payload that is taken, which is the least that a server may announce.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;
/// The largest flow-control window.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;

/// Kinds of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Parameters of SETTINGS.
pub mod setting {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Reason {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload.
    pub len: usize,
    /// DATA, HEADERS, …
    pub kind: u8,
    /// Meaning depends on the kind.
    pub flags: u8,
    /// The stream it belongs to; 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a head; its reserved bit is ignored.
    #[must_use]
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        Head { len, kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) }
    }

    /// Whether it has `flag`.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Appends the head.
    pub fn write(&self, out: &mut Vec<u8>) {
        let [_, a, b, c] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags, s0, s1, s2, s3]);
    }
}

/// Appends a whole frame.
pub fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    Head { len: payload.len(), kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}

/// Appends RST_STREAM.
pub fn write_reset(stream: u32, reason: Reason, out: &mut Vec<u8>) {
    write(kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes(), out);
}

/// Appends WINDOW_UPDATE.
pub fn write_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    write(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes(), out);
}

/// Appends GOAWAY: streams above `last` were not looked at.
pub fn write_goaway(last: u32, reason: Reason, why: &str, out: &mut Vec<u8>) {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend_from_slice(&(reason as u32).to_be_bytes());
    payload.extend_from_slice(why.as_bytes());
    write(kind::GOAWAY, 0, 0, &payload, out);
}

/// Appends SETTINGS.
pub fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    Head { len: settings.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// What lies between a frame's padding (section 6.1); `None` if the padding is longer than the frame.
#[must_use]
pub fn without_padding(padded: bool, payload: &[u8]) -> Option<&[u8]> {
    if !padded {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.len().checked_sub(usize::from(padding)).map(|len| &rest[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for head in [
            Head { len: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 },
            Head { len: 0x00ff_fffe, kind: 0xff, flags: 0xff, stream: 0x7fff_ffff },
        ] {
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            assert_eq!(Head::read(bytes[..].try_into().unwrap()), head);
            bytes[5] |= 0x80;
            assert_eq!(Head::read(bytes[..].try_into().unwrap()), head, "a reserved bit means nothing");
        }
    }

    #[test]
    fn padding_is_taken_off_and_never_more_than_there_is() {
        assert_eq!(without_padding(false, b"\x05ab"), Some(&b"\x05ab"[..]));
        assert_eq!(without_padding(true, b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(without_padding(true, b"\x04abcd"), Some(&b""[..]));
        assert_eq!(without_padding(true, b"\x05abcd"), None);
        assert_eq!(without_padding(true, b""), None);
    }

    #[test]
    fn a_goaway_is_as_the_rfc_draws_it() {
        let mut bytes = Vec::new();
        write_goaway(7, Reason::EnhanceYourCalm, "why", &mut bytes);
        assert_eq!(bytes, b"\0\0\x0b\x07\0\0\0\0\0\0\0\0\x07\0\0\0\x0bwhy");
    }
}

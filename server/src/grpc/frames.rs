//! Walks the frames of one direction of an HTTP/2 connection as their bytes pass (RFC 9113, section 4.1), without
//! holding any of them.

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// DATA, HEADERS, …: section 6 of the RFC.
    pub kind: u8,
    /// The frame's flags.
    pub flags: u8,
    /// The stream it belongs to; 0 is the connection.
    pub stream: u32,
}

const HEAD_BYTES: usize = 9;

/// Where in the frames the bytes seen so far end.
#[derive(Debug, Default)]
pub struct Walk {
    head: [u8; HEAD_BYTES],
    /// How much of the head is there.
    have: usize,
    /// What is left of the frame's payload.
    left: usize,
}

impl Walk {
    /// Takes the next bytes; `visit` sees each frame once its head is complete.
    pub fn pass(&mut self, mut bytes: &[u8], mut visit: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                visit(FrameHead { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]) });
            }
        }
    }

    /// Whether the bytes seen so far end with a frame.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        let frames = [(0_u8, 1_u8, 1_u32, 300_usize), (6, 0, 0, 8), (1, 5, 0x7fff_ffff, 0), (0, 0, 3, 1)];
        for (kind, flags, stream, len) in frames {
            bytes.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes()[1..]);
            bytes.extend_from_slice(&[kind, flags]);
            bytes.extend_from_slice(&stream.to_be_bytes());
            bytes.resize(bytes.len() + len, 0xff);
        }
        for piece in 1..bytes.len() {
            let (mut walk, mut found) = (Walk::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                walk.pass(piece, |head| found.push((head.kind, head.flags, head.stream)));
            }
            let wanted = frames.map(|(kind, flags, stream, _)| (kind, flags, stream));
            assert_eq!(found, wanted, "pieces of {piece}");
            assert!(walk.is_between_frames());
            walk.pass(&[0], |_| unreachable!("a frame of one byte"));
            assert!(!walk.is_between_frames());
        }
    }
}

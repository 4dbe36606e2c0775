//! What waits to be sent: small frames gathered in one buffer, large pieces as they are, without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Pieces from this size on are not copied.
const SHARED_BYTES: usize = 4 << 10;
/// The size a buffer begins with: some answers of a few dozen bytes.
const BUFFER_BYTES: usize = 1 << 10;
/// So many parts go into one system call.
const PARTS_MAX: usize = 64;

/// Bytes in their order.
#[derive(Debug, Default)]
pub struct Output {
    parts: VecDeque<Bytes>,
    /// What comes behind the parts.
    last: Vec<u8>,
    len: usize,
}

impl Output {
    /// Appends what `write` appends to the buffer that it is given.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.last.capacity() == 0 {
            self.last.reserve(BUFFER_BYTES);
        }
        let before = self.last.len();
        let written = write(&mut self.last);
        self.len += self.last.len() - before;
        written
    }

    /// Appends `piece`.
    pub fn piece(&mut self, piece: Bytes) {
        if piece.len() < SHARED_BYTES {
            return self.write(|out| out.extend_from_slice(&piece));
        }
        self.len += piece.len();
        self.seal();
        self.parts.push_back(piece);
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves everything behind what `to` has.
    pub fn move_to(&mut self, to: &mut Output) {
        if to.is_empty() {
            std::mem::swap(self, to);
            return;
        }
        self.seal();
        to.seal();
        to.parts.append(&mut self.parts);
        to.len += std::mem::take(&mut self.len);
    }

    /// What goes into the next system call. Only of an output that was moved as a whole is this everything.
    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.seal();
        self.parts.iter().take(PARTS_MAX).map(|part| IoSlice::new(part)).collect()
    }

    /// The bytes that wait, if they are in one part.
    #[must_use]
    pub fn single(&self) -> Option<&[u8]> {
        match (self.parts.len(), self.last.len()) {
            (0, 1..) => Some(&self.last),
            (1, 0) => self.parts.front().map(|part| &part[..]),
            _ => None,
        }
    }

    /// Takes away the first `sent` bytes. Nothing of the memory is kept behind the last.
    pub fn advance(&mut self, sent: usize) {
        self.len -= sent.min(self.len);
        if self.len == 0 {
            *self = Output::default();
            return;
        }
        self.seal();
        let mut left = sent;
        while let Some(part) = self.parts.front_mut() {
            if part.len() > left {
                part.advance(left);
                return;
            }
            left -= part.len();
            self.parts.pop_front();
        }
    }

    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.parts.push_back(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_their_order_however_they_are_taken() {
        for step in [7, 100, 4096, 5000, 100_000] {
            let (mut waiting, mut sending, mut wanted, mut sent) =
                (Output::default(), Output::default(), Vec::new(), Vec::new());
            for round in 0..6_u8 {
                waiting.write(|out| out.extend_from_slice(&[round; 10]));
                wanted.extend_from_slice(&[round; 10]);
                for len in [1, SHARED_BYTES - 1, SHARED_BYTES, 9000] {
                    waiting.piece(vec![round; len].into());
                    wanted.resize(wanted.len() + len, round);
                }
                waiting.write(|out| out.push(9));
                wanted.push(9);
                waiting.move_to(&mut sending);
                assert!(waiting.is_empty());
                while sending.len() > 100 {
                    let first: Vec<u8> = match sending.single() {
                        Some(single) => single[..step.min(single.len())].to_vec(),
                        None => {
                            sending.slices().iter().flat_map(|part| part.iter().copied()).take(step).collect()
                        }
                    };
                    sent.extend_from_slice(&first);
                    sending.advance(first.len());
                }
            }
            while !sending.is_empty() {
                let first = sending.slices().iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>();
                sent.extend_from_slice(&first);
                sending.advance(first.len());
            }
            assert_eq!(sent.len(), wanted.len());
            assert!(sent == wanted, "steps of {step}");
        }
    }

    #[test]
    fn one_part_is_one_part() {
        let mut output = Output::default();
        assert_eq!(output.single(), None);
        output.write(|out| out.push(1));
        output.piece(Bytes::from_static(b"xy"));
        assert_eq!(output.single(), Some(&b"\x01xy"[..]));
        output.piece(vec![0; SHARED_BYTES].into());
        assert_eq!(output.single(), None);
        output.advance(3);
        assert_eq!(output.single().map(<[u8]>::len), Some(SHARED_BYTES));
    }
}

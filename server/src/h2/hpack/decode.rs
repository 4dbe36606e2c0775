//! Header blocks of requests, decoded.

use std::collections::VecDeque;

use bytes::Bytes;

use super::known::STATIC;
use super::{Field, Malformed, Name, TABLE_BYTES};
use crate::h2::huffman;

/// Decodes the header blocks of one connection, which must come in their order.
#[derive(Debug)]
pub struct Decoder {
    /// What is remembered, the newest first.
    pub(super) fields: VecDeque<Field>,
    /// How much that counts.
    pub(super) size: usize,
    /// How much it may count.
    pub(super) size_max: usize,
    /// Goes up with every change of what is remembered.
    pub(super) version: u64,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { fields: VecDeque::new(), size: 0, size_max: TABLE_BYTES, version: 0 }
    }
}

impl Decoder {
    /// Decodes a whole header block; `visit` sees each field.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn decode(&mut self, block: &[u8], mut visit: impl FnMut(&Field)) -> Result<(), Malformed> {
        let mut input = Input(block);
        let mut begun = false;
        while let Some(&first) = input.0.first() {
            if first & 0x80 != 0 {
                visit(self.find(input.integer(7)?)?);
            } else if first & 0xe0 == 0x20 {
                let size_max = input.integer(5)?;
                if begun || size_max > TABLE_BYTES {
                    return Err(Malformed);
                }
                self.size_max = size_max;
                self.evict(0);
                self.version += 1;
                continue;
            } else {
                let remembered = first & 0x40 != 0;
                let field = self.literal(&mut input, if remembered { 6 } else { 4 })?;
                visit(&field);
                if remembered {
                    self.remember(field);
                }
            }
            begun = true;
        }
        Ok(())
    }

    /// Tells two states of what is remembered apart.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    fn literal(&self, input: &mut Input<'_>, bits: u32) -> Result<Field, Malformed> {
        let name = match input.integer(bits)? {
            0 => Name::of(input.string()?),
            index => self.find(index)?.name.clone(),
        };
        Ok(Field { name, value: input.string()? })
    }

    fn find(&self, index: usize) -> Result<&Field, Malformed> {
        let index = index.checked_sub(1).ok_or(Malformed)?;
        STATIC.get(index).or_else(|| self.fields.get(index - STATIC.len())).ok_or(Malformed)
    }

    fn remember(&mut self, field: Field) {
        let size = field.size();
        self.version += 1;
        self.evict(size);
        // One that is larger than the table empties it (section 4.4).
        if size <= self.size_max {
            self.size += size;
            self.fields.push_front(field);
        }
    }

    /// Forgets the oldest until `more` fits.
    fn evict(&mut self, more: usize) {
        while self.size + more > self.size_max
            && let Some(oldest) = self.fields.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// What is left of a header block.
struct Input<'b>(&'b [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    /// An integer that begins in the lower `bits` of a byte (section 5.1). No table and no block is larger than 28 bits tell.
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let mask = (1_u8 << bits) - 1;
        let first = self.byte()? & mask;
        let mut value = usize::from(first);
        if first < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let next = self.byte()?;
            value += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A string (section 5.2).
    fn string(&mut self) -> Result<Bytes, Malformed> {
        let coded = self.0.first().ok_or(Malformed)? & 0x80 != 0;
        let len = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        if coded {
            huffman::decode(bytes).map(Bytes::from).ok_or(Malformed)
        } else {
            Ok(Bytes::copy_from_slice(bytes))
        }
    }
}

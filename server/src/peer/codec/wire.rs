//! Protobuf's wire format, as far as raft messages need it: writing, and reading that refuses what is malformed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::DecodeError;

/// Wire type of a varint.
const VARINT: u64 = 0;
/// Wire type of bytes with their length.
const BYTES: u64 = 2;
/// Payloads of at least so many bytes are sent from where they are; shorter ones are copied into the frame, which
/// costs less than a piece of its own.
pub(super) const SPLICE_MIN: usize = 8 << 10;

/// Bytes being written: what is encoded, and large payloads that belong between.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// What is encoded.
    pub(crate) encoded: BytesMut,
    /// Payloads, each with the place in `encoded` where it belongs, ascending.
    pub(crate) spliced: Vec<(usize, Bytes)>,
}

impl Pieces {
    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.encoded.len() + self.spliced.iter().map(|(_, payload)| payload.len()).sum::<usize>()
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.encoded.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.encoded.put_u8(value as u8);
    }

    /// A number, unless it is zero.
    pub(super) fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(value);
        }
    }

    /// The head of a nested message of `len` bytes.
    pub(super) fn head(&mut self, field: u64, len: usize) {
        self.varint(field << 3 | BYTES);
        self.varint(len as u64);
    }

    /// Bytes, unless there are none.
    pub(super) fn bytes(&mut self, field: u64, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.head(field, bytes.len());
        if bytes.len() < SPLICE_MIN {
            self.encoded.put_slice(bytes);
        } else {
            self.spliced.push((self.encoded.len(), bytes.clone()));
        }
    }
}

/// Bytes of `value` as a varint.
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes of what [`Pieces::number`] writes.
pub(super) fn number_len(field: u64, value: u64) -> usize {
    if value == 0 { 0 } else { varint_len(field << 3) + varint_len(value) }
}

/// Bytes of what [`Pieces::bytes`] writes.
pub(super) fn bytes_len(field: u64, len: usize) -> usize {
    if len == 0 { 0 } else { varint_len(field << 3) + varint_len(len as u64) + len }
}

/// One field as it was read.
#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Value {
    pub(super) fn number(self) -> Result<u64, DecodeError> {
        match self {
            Value::Number(value) => Ok(value),
            Value::Bytes(_) => Err(DecodeError::WireType),
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, DecodeError> {
        match self {
            Value::Bytes(value) => Ok(value),
            Value::Number(_) => Err(DecodeError::WireType),
        }
    }
}

/// Reads the next field; `None` at the end.
pub(super) fn next_field(from: &mut Bytes) -> Result<Option<(u64, Value)>, DecodeError> {
    if from.is_empty() {
        return Ok(None);
    }
    let key = read_varint(from)?;
    let value = match key & 7 {
        VARINT => Value::Number(read_varint(from)?),
        BYTES => {
            let len = read_varint(from)?;
            let len = usize::try_from(len).ok().filter(|&len| len <= from.len());
            Value::Bytes(from.split_to(len.ok_or(DecodeError::Short)?))
        }
        _ => return Err(DecodeError::WireType),
    };
    Ok(Some((key >> 3, value)))
}

/// Reads numbers, packed into one field or one of many.
pub(super) fn read_numbers(value: Value, into: &mut Vec<u64>) -> Result<(), DecodeError> {
    match value {
        Value::Number(number) => into.push(number),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                into.push(read_varint(&mut packed)?);
            }
        }
    }
    Ok(())
}

pub(super) fn read_varint(from: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for (at, &byte) in from.iter().take(10).enumerate() {
        if at == 9 && byte > 1 {
            return Err(DecodeError::Varint);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            from.advance(at + 1);
            return Ok(value);
        }
    }
    Err(if from.len() < 10 { DecodeError::Short } else { DecodeError::Varint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut pieces = Pieces::default();
            pieces.varint(value);
            assert_eq!(pieces.encoded.len(), varint_len(value), "{value}");
            assert_eq!(read_varint(&mut pieces.encoded.freeze()), Ok(value));
        }
        let endless = Bytes::from(vec![0xff; 11]);
        assert_eq!(read_varint(&mut endless.clone()), Err(DecodeError::Varint));
        assert_eq!(read_varint(&mut endless.slice(..9)), Err(DecodeError::Short));
    }
}

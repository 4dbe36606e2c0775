//! Header blocks of answers, encoded.

use super::known::KNOWN;
use super::{FIELD_OVERHEAD, TABLE_BYTES};

/// The fields of gRPC's answers that a client is asked to remember.
const CONTENT_TYPE: (&str, &[u8]) = ("content-type", b"application/grpc");
const STATUS_OK: (&str, &[u8]) = ("grpc-status", b"0");
/// How much both count.
const REMEMBERED_BYTES: u32 = 12 + 16 + 11 + 1 + 2 * FIELD_OVERHEAD as u32;
/// Numbers of the remembered fields: the first one that is not known to everybody is the newest.
const NEWEST: u8 = 0x80 | 62;
const OLDEST: u8 = 0x80 | 63;

/// Encodes the header blocks of one connection's answers.
#[derive(Debug)]
pub struct Encoder {
    /// Which of the two fields were sent to be remembered: the content type first.
    sent: u8,
    /// How much the client remembers, as far as it matters here: never more than at the beginning.
    table_bytes: u32,
    /// It is to be told so.
    tell: bool,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { sent: 0, table_bytes: TABLE_BYTES as u32, tell: false }
    }
}

impl Encoder {
    /// The client says how much it remembers at most. A smaller table than before it wants to hear of in the next block.
    pub fn set_table_bytes(&mut self, bytes: u32) {
        let bytes = if bytes < REMEMBERED_BYTES { 0 } else { bytes };
        if bytes < self.table_bytes {
            self.table_bytes = bytes;
            self.tell = true;
        }
    }

    /// Appends the status of a response, which begins a block.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        self.begin(out);
        let known = KNOWN[7..14].iter().position(|(_, value)| value.parse() == Ok(status));
        match known {
            Some(place) => out.push(0x80 | (8 + place as u8)),
            None => {
                out.push(8);
                string(status.to_string().as_bytes(), out);
            }
        }
    }

    /// Begins a block. One that has a status has begun with it.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        // The table shrinks (section 4.2).
        if std::mem::take(&mut self.tell) {
            integer(0x20, 5, self.table_bytes as usize, out);
        }
    }

    /// Appends a field.
    pub fn field(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let place = match (name, value) {
            CONTENT_TYPE => 1,
            STATUS_OK => 2,
            _ => 0,
        };
        if place == 0 || self.table_bytes == 0 {
            out.push(0);
            string(name.as_bytes(), out);
            string(value, out);
        } else if place <= self.sent {
            out.push(if place == self.sent { NEWEST } else { OLDEST });
        } else if place == self.sent + 1 {
            self.sent = place;
            out.push(0x40);
            string(name.as_bytes(), out);
            string(value, out);
        } else {
            // Out of turn: a call that failed before any was answered.
            out.push(0);
            string(name.as_bytes(), out);
            string(value, out);
        }
    }
}

/// A string as it is, behind its length.
pub(super) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer(0, 7, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// An integer that begins in the lower `bits` of a byte, of which `upper` are the others (section 5.1).
fn integer(upper: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        return out.push(upper | value as u8);
    }
    out.push(upper | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

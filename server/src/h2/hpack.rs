//! Header fields from their compressed form (RFC 7541), and those of answers into it.
//!
//! A decoder remembers the fields that its client wants remembered, 4 KiB at most. The encoder asks the client to remember two
//! fields that are in every answer of gRPC, and sends everything else as it is: nothing of it is kept.

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderName;

use super::huffman;

/// The size of the table of remembered fields that every connection begins with (RFC 9113, section 6.5.2), in bytes as the
/// RFC counts them. It is never announced otherwise.
pub const TABLE_BYTES: usize = 4096;
/// What a remembered field counts beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Field(HeaderName),
    /// A name that no request may have.
    Bad(Bytes),
}

impl Name {
    fn of(bytes: Bytes) -> Name {
        match &bytes[..] {
            b":method" => Name::Method,
            b":scheme" => Name::Scheme,
            b":authority" => Name::Authority,
            b":path" => Name::Path,
            name => match HeaderName::from_lowercase(name) {
                Ok(name) => Name::Field(name),
                Err(_) => Name::Bad(bytes),
            },
        }
    }

    fn len(&self) -> usize {
        match self {
            Name::Method | Name::Scheme => ":method".len(),
            Name::Authority => ":authority".len(),
            Name::Path => ":path".len(),
            Name::Field(name) => name.as_str().len(),
            Name::Bad(name) => name.len(),
        }
    }
}

/// One field. What its value may consist of has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Bytes,
}

impl Field {
    /// How much it counts in a table or a list, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD
    }
}

/// The bytes are no header block, or one that does not fit what was remembered: what follows could not be understood either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Decodes the header blocks of one connection, which must come in their order.
#[derive(Debug)]
pub struct Decoder {
    /// What is remembered, the newest first.
    fields: VecDeque<Field>,
    /// How much that counts.
    size: usize,
    /// How much it may count.
    size_max: usize,
    /// Goes up with every change of what is remembered.
    version: u64,
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

/// The fields that everybody knows (appendix A), by number from 1.
static STATIC: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let field = |(name, value): &(&'static str, &'static str)| Field {
        name: Name::of(Bytes::from_static(name.as_bytes())),
        value: Bytes::from_static(value.as_bytes()),
    };
    KNOWN.iter().map(field).collect()
});

const KNOWN: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

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
fn string(bytes: &[u8], out: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn name_of(name: &Name) -> String {
        match name {
            Name::Method => ":method".into(),
            Name::Scheme => ":scheme".into(),
            Name::Authority => ":authority".into(),
            Name::Path => ":path".into(),
            Name::Field(name) => name.to_string(),
            Name::Bad(name) => format!("bad {}", String::from_utf8_lossy(name)),
        }
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
        let mut found = Vec::new();
        decoder.decode(block, |field| {
            found.push(format!("{}: {}", name_of(&field.name), String::from_utf8_lossy(&field.value)));
        })?;
        Ok(found)
    }

    /// Appendix C.3 and C.4: the same three requests on one connection, plain and coded.
    #[test]
    fn the_rfcs_requests() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::default();
            let found = blocks.map(|block| decode(&mut decoder, &hex(block)).unwrap());
            let authority = ":authority: www.example.com";
            assert_eq!(found[0], [":method: GET", ":scheme: http", ":path: /", authority]);
            assert_eq!(
                found[1],
                [":method: GET", ":scheme: http", ":path: /", authority, "cache-control: no-cache"]
            );
            let third = [
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                authority,
                "custom-key: custom-value",
            ];
            assert_eq!(found[2], third);
            assert_eq!(decoder.size, 164);
        }
    }

    /// Appendix C.5: a table of 256 bytes forgets.
    #[test]
    fn the_rfcs_table_forgets_the_oldest() {
        let mut decoder = Decoder { size_max: 256, ..Decoder::default() };
        for (block, size) in [
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
              3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                222,
            ),
            ("4803 3330 37c1 c0bf", 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
              7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
              6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
                215,
            ),
        ] {
            decode(&mut decoder, &hex(block)).unwrap();
            assert_eq!(decoder.size, size);
        }
        let kept: Vec<_> = decoder.fields.iter().map(|field| name_of(&field.name)).collect();
        assert_eq!(kept, ["set-cookie", "content-encoding", "date"]);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let refused = |block: &str| decode(&mut Decoder::default(), &hex(block)).is_err();
        assert!(refused("80"), "number 0");
        assert!(refused("be"), "nothing is remembered yet");
        assert!(refused("ff80 8080 8001"), "a number of more bytes than any needs");
        assert!(refused("ffff ffff ff7f"), "a number of more bytes than any needs");
        assert!(refused("0005 61"), "a name that ends early");
        assert!(refused("0001 61"), "no value");
        assert!(refused("0001 6105 62"), "a value that ends early");
        assert!(refused("4081 ff01 61"), "a code that is none");
        assert!(refused("3fe2 1f"), "a table of 4097 bytes");
        assert!(refused("8220"), "a size behind a field");
        assert!(!refused("3fe1 1f20 3fe1 1f82"), "sizes before the first field");
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::default();
        decode(&mut decoder, &hex("4001 6101 62")).unwrap();
        assert_eq!((decoder.fields.len(), decoder.version()), (1, 1));
        let mut large = hex("4001 63");
        string(&[b'v'; 5000], &mut large);
        assert_eq!(decode(&mut decoder, &large).unwrap().len(), 1);
        assert_eq!((decoder.fields.len(), decoder.size, decoder.version()), (0, 0, 2));
    }

    #[test]
    fn no_bytes_make_it_panic_or_remember_more_than_it_may() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut decoder = Decoder::default();
        for _ in 0..20_000 {
            let mut block = vec![0; (random >> 58) as usize];
            for byte in &mut block {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (random >> 56) as u8;
            }
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let _whatever = decode(&mut decoder, &block);
            let size: usize = decoder.fields.iter().map(Field::size).sum();
            assert_eq!(decoder.size, size);
            assert!(size <= TABLE_BYTES);
        }
    }

    #[test]
    fn answers_are_understood_and_short_from_the_second_on() {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::default();
        let answer = |encoder: &mut Encoder| {
            let (mut head, mut trailers) = (Vec::new(), Vec::new());
            encoder.status(200, &mut head);
            encoder.field("content-type", b"application/grpc", &mut head);
            encoder.begin(&mut trailers);
            encoder.field("grpc-status", b"0", &mut trailers);
            (head, trailers)
        };
        for (round, lens) in [(22 + 10, 15), (2, 1), (2, 1)].into_iter().enumerate() {
            let (head, trailers) = answer(&mut encoder);
            if round > 0 {
                assert_eq!((head.len(), trailers.len()), lens);
            }
            let found = decode(&mut decoder, &head).unwrap();
            assert_eq!(found, ["bad :status: 200", "content-type: application/grpc"]);
            assert_eq!(decode(&mut decoder, &trailers).unwrap(), ["grpc-status: 0"]);
        }
        encoder.set_table_bytes(100);
        encoder.set_table_bytes(50);
        for _ in 0..2 {
            let (head, trailers) = answer(&mut encoder);
            assert_eq!(decode(&mut decoder, &head).unwrap()[1], "content-type: application/grpc");
            assert_eq!(decode(&mut decoder, &trailers).unwrap(), ["grpc-status: 0"]);
            assert_eq!(decoder.size, 0);
        }
        let mut odd = Vec::new();
        encoder.status(418, &mut odd);
        encoder.field("x", &[b'v'; 300], &mut odd);
        let found = decode(&mut decoder, &odd).unwrap();
        assert_eq!(found[0], "bad :status: 418");
        assert_eq!(found[1].len(), 3 + 300);
    }

    #[test]
    fn a_client_that_remembers_less_is_told_so_first() {
        for (sizes, told) in [
            (&[4096, 1 << 16][..], &[][..]),
            (&[1000, 4096], &[0x3f, 0xc9, 0x07]),
            (&[1000, 104], &[0x3f, 73]),
            (&[103], &[0x20]),
            (&[0, 4096], &[0x20]),
        ] {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            sizes.iter().for_each(|&size| encoder.set_table_bytes(size));
            for round in 0..3 {
                let mut block = Vec::new();
                encoder.status(200, &mut block);
                encoder.field("content-type", b"application/grpc", &mut block);
                let told = if round == 0 { told } else { &[] };
                assert!(block.starts_with(&[told, &[0x88]].concat()), "{sizes:?}");
                assert_eq!(decode(&mut decoder, &block).unwrap()[1], "content-type: application/grpc");
            }
        }
    }

    #[test]
    fn fields_come_in_any_order() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for value in [&b"0"[..], b"0", b"5", b"0"] {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.field("grpc-status", value, &mut block);
            encoder.field("content-type", b"application/grpc", &mut block);
            encoder.field("content-type", b"text/plain", &mut block);
            let status = format!("grpc-status: {}", String::from_utf8_lossy(value));
            let wanted = [&status[..], "content-type: application/grpc", "content-type: text/plain"];
            assert_eq!(decode(&mut decoder, &block).unwrap(), wanted);
        }
    }
}

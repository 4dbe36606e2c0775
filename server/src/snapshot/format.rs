//! The bytes around the chunks of a snapshot file: pure encoding and decoding.
//!
//! ```text
//! header   magic "ketch snapshot 1" | revision i64 | compacted i64 | keys u64 | version major u16, minor u16
//!          | 16 zero bytes | crc32 u32 of all that                                      — 64 bytes
//! chunk    length u32 | a chunk of the store's snapshot stream                         — as many as there are
//! end      0 u32 | zero bytes up to a multiple of 512
//! trailer  SHA-256 of everything before                                                — 32 bytes
//! ```
//!
//! So the file's length is 32 above a multiple of 512, which is how etcd's tools tell a snapshot that is complete.

/// Bytes of the header.
pub const HEADER: usize = 64;
/// Bytes of the trailer.
pub const TRAILER: usize = 32;
/// The file without its trailer is a multiple of this.
pub const ALIGN: usize = 512;

const MAGIC: [u8; 16] = *b"ketch snapshot 1";
const CRC_AT: usize = HEADER - 4;
/// Where a bbolt file, which is what etcd's snapshots are, has its magic number, and the number.
const BBOLT_AT: usize = 16;
const BBOLT_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The revision of the state.
    pub revision: i64,
    /// Its compaction point; -1 when it was never compacted.
    pub compacted: i64,
    /// How many keys it has.
    pub keys: u64,
    /// The storage version, major and minor.
    pub version: (u16, u16),
}

/// What a file's first bytes are, if not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// A snapshot or a database of etcd.
    OfEtcd,
    /// A snapshot of a later format.
    Later,
    /// Something else, or a damaged header.
    Unknown,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.compacted.to_le_bytes());
        bytes.extend_from_slice(&self.keys.to_le_bytes());
        bytes.extend_from_slice(&self.version.0.to_le_bytes());
        bytes.extend_from_slice(&self.version.1.to_le_bytes());
        bytes.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&bytes);
        let mut header = [0; HEADER];
        header[..CRC_AT].copy_from_slice(&bytes);
        header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What the bytes are instead.
    pub fn decode(bytes: &[u8]) -> Result<Header, NotOurs> {
        let (Some(magic), Some(crc)) = (bytes.get(..16), word::<4>(bytes, CRC_AT)) else {
            return Err(NotOurs::Unknown);
        };
        if magic != MAGIC {
            let of_etcd = bytes.get(BBOLT_AT..BBOLT_AT + 4) == Some(&BBOLT_MAGIC);
            return Err(match magic.starts_with(&MAGIC[..15]) {
                _ if of_etcd => NotOurs::OfEtcd,
                true => NotOurs::Later,
                false => NotOurs::Unknown,
            });
        }
        if u32::from_le_bytes(crc) != crc32fast::hash(&bytes[..CRC_AT]) {
            return Err(NotOurs::Unknown);
        }
        let number = |at| word(bytes, at).map(u64::from_le_bytes).ok_or(NotOurs::Unknown);
        let short = |at| word(bytes, at).map(u16::from_le_bytes).ok_or(NotOurs::Unknown);
        Ok(Header {
            revision: number(16)? as i64,
            compacted: number(24)? as i64,
            keys: number(32)?,
            version: (short(40)?, short(42)?),
        })
    }
}

/// The bytes before a chunk of `len` bytes.
#[must_use]
pub fn chunk_head(len: usize) -> [u8; 4] {
    // A chunk is as large as what it was asked for and one record more: far below 4 GiB.
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// The bytes behind the last chunk, when `written` bytes come before them.
#[must_use]
pub fn end(written: u64) -> Vec<u8> {
    let over = ((written + 4) % ALIGN as u64) as usize;
    vec![0; 4 + (ALIGN - over) % ALIGN]
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_damaged_one_does_not() {
        let header = Header { revision: 9, compacted: -1, keys: 3, version: (3, 7) };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
        for cut in 0..HEADER {
            assert!(Header::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        let mut bolt = [0u8; 4096];
        bolt[16..20].copy_from_slice(&[0xED, 0xDA, 0x0C, 0xED]);
        assert_eq!(Header::decode(&bolt), Err(NotOurs::OfEtcd));
        let mut later = Header { revision: 1, compacted: -1, keys: 0, version: (3, 7) }.encode();
        later[15] = b'2';
        assert_eq!(Header::decode(&later), Err(NotOurs::Later));
        assert_eq!(Header::decode(b""), Err(NotOurs::Unknown));
    }

    #[test]
    fn the_end_fills_up_to_whole_sectors() {
        for written in 60..2000u64 {
            let end = end(written);
            assert!(end.len() >= 4 && end.len() < 4 + ALIGN && end.iter().all(|&byte| byte == 0));
            assert_eq!((written + end.len() as u64) % ALIGN as u64, 0);
        }
    }
}

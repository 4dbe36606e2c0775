//! Sorted keys packed into one buffer, so that copying a node is two `memcpy`s.

use std::cmp::Ordering;

/// A sorted list of byte strings.
#[derive(Clone, Default, Debug)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// `ends[i]` is where key `i` ends in `bytes`.
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all keys together.
    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// Where `key` is, or would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Inserts `key` as number `i`.
    pub(super) fn insert(&mut self, i: usize, key: &[u8]) {
        let at = self.start(i);
        self.bytes.splice(at..at, key.iter().copied());
        self.ends.insert(i, at as u32);
        for end in &mut self.ends[i..] {
            *end += key.len() as u32;
        }
    }

    pub(super) fn remove(&mut self, i: usize) {
        let (start, end) = (self.start(i), self.ends[i] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(i);
        for later in &mut self.ends[i..] {
            *later -= (end - start) as u32;
        }
    }

    /// Moves the keys from number `i` on into a list of their own.
    pub(super) fn split_off(&mut self, i: usize) -> Keys {
        let at = self.start(i);
        let ends = self.ends[i..].iter().map(|end| end - at as u32).collect();
        let bytes = self.bytes[at..].to_vec();
        self.ends.truncate(i);
        self.bytes.truncate(at);
        Keys { bytes, ends }
    }

    /// Appends all keys of `other`, which follow the own ones.
    pub(super) fn append(&mut self, other: &Keys) {
        let shift = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + shift));
    }

    /// Appends `key`, which follows the own ones.
    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Gives back memory that was reserved in excess.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_list() {
        let mut keys = Keys::default();
        let mut plain: Vec<Vec<u8>> = Vec::new();
        let mut seed = 7u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let key = vec![(seed >> 33) as u8 % 50; (seed >> 45) as usize % 4];
            match (keys.search(&key), plain.binary_search(&key)) {
                (Ok(i), Ok(j)) if seed >> 60 < 12 => {
                    assert_eq!(i, j);
                    keys.remove(i);
                    plain.remove(j);
                }
                (Err(i), Err(j)) => {
                    assert_eq!(i, j);
                    keys.insert(i, &key);
                    plain.insert(j, key);
                }
                (i, j) => assert_eq!(i, j),
            }
            assert!((0..keys.len()).map(|i| keys.get(i)).eq(plain.iter().map(Vec::as_slice)));
        }
        let middle = keys.len() / 2;
        let tail = keys.split_off(middle);
        keys.append(&tail);
        assert!((0..keys.len()).map(|i| keys.get(i)).eq(plain.iter().map(Vec::as_slice)));
    }
}

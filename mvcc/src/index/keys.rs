//! Sorted keys of one node, found by eight bytes each: what follows the beginning that all of them share.
//!
//! ```text
//! bytes   /pods/default/web-1 /pods/default/web-2 /pods/kube/dns     prefix 6: "/pods/"
//! tags    "default/"          "default/"          "kube/dns"         compared as numbers
//! ```
//!
//! A search compares tags, which lie side by side, and looks at whole keys only where tags are equal.

use super::node::ENTRIES_MAX;

/// One more than a node may have: it is split after the insertion.
pub(super) const SLOTS: usize = ENTRIES_MAX + 1;

/// A sorted list of at most [`SLOTS`] byte strings.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    len: usize,
    /// So many bytes, at least, all keys have in common at their beginning.
    prefix: usize,
    /// Of each key the eight bytes behind the prefix, as a big-endian number; short ones are filled with zeroes.
    tags: [u64; SLOTS],
    /// `ends[i]` is where key `i` ends in `bytes`.
    ends: [u32; SLOTS],
    bytes: Vec<u8>,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys { len: 0, prefix: 0, tags: [0; SLOTS], ends: [0; SLOTS], bytes: Vec::new() }
    }
}

fn tag(key: &[u8], prefix: usize) -> u64 {
    let rest = &key[prefix..];
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all keys together.
    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Reads a little of each cache line that going from key to key needs.
    pub(super) fn glance(&self) -> u64 {
        self.ends.iter().step_by(16).fold(self.len as u64, |sum, &end| sum ^ u64::from(end))
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// Whether number `i` is `key`.
    pub(super) fn is_at(&self, i: usize, key: &[u8]) -> bool {
        i < self.len && self.get(i) == key
    }

    /// Where `key` is, or would be.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        if self.len == 0 {
            return Err(0);
        }
        let shared = &self.bytes[..self.prefix];
        if !key.starts_with(shared) {
            return Err(if key < shared { 0 } else { self.len });
        }
        let tag = tag(key, self.prefix);
        let tags = &self.tags[..self.len];
        let mut low = self.below(tag);
        let mut high = low;
        while high < self.len && tags[high] == tag {
            high += 1;
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// How many tags are below this one. All are looked at, without a decision at any: memory brings them side by side, where halving
    /// would wait for one after the other and guess wrong at every second.
    #[inline]
    fn below(&self, tag: u64) -> usize {
        self.tags[..self.len].iter().map(|&other| usize::from(other < tag)).sum()
    }

    /// Where `key` is. What all keys begin with is compared only with the key that is found: one place in memory less to wait for.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        if key.len() < self.prefix {
            return None;
        }
        let tag = tag(key, self.prefix);
        let tags = &self.tags[..self.len];
        let first = self.below(tag);
        (first..self.len).take_while(|&i| tags[i] == tag).find(|&i| self.get(i) == key)
    }

    /// Inserts `key` as number `i`.
    pub(super) fn insert(&mut self, i: usize, key: &[u8]) {
        let at = self.start(i);
        self.bytes.reserve_exact(key.len());
        self.bytes.splice(at..at, key.iter().copied());
        self.ends.copy_within(i..self.len, i + 1);
        self.tags.copy_within(i..self.len, i + 1);
        self.len += 1;
        self.ends[i] = at as u32;
        for end in &mut self.ends[i..self.len] {
            *end += key.len() as u32;
        }
        if i == 0 || i + 1 == self.len {
            self.ends_changed();
        }
        self.tags[i] = tag(self.get(i), self.prefix);
    }

    pub(super) fn remove(&mut self, i: usize) {
        let (start, end) = (self.start(i), self.ends[i] as usize);
        self.bytes.drain(start..end);
        self.ends.copy_within(i + 1..self.len, i);
        self.tags.copy_within(i + 1..self.len, i);
        self.len -= 1;
        for later in &mut self.ends[i..self.len] {
            *later -= (end - start) as u32;
        }
        if self.len == 0 {
            self.prefix = 0;
        }
    }

    /// Moves the keys from number `i` on into a list of their own.
    pub(super) fn split_off(&mut self, i: usize) -> Keys {
        let mut right =
            Keys { bytes: Vec::with_capacity(self.bytes.len() - self.start(i)), ..Keys::default() };
        (i..self.len).for_each(|at| right.push(self.get(at)));
        self.bytes.truncate(self.start(i));
        self.bytes.shrink_to_fit();
        self.len = i;
        self.renew();
        right.renew();
        right
    }

    /// Appends `key`, which follows the own ones.
    pub(super) fn push(&mut self, key: &[u8]) {
        let i = self.len;
        self.bytes.extend_from_slice(key);
        self.ends[i] = self.bytes.len() as u32;
        self.len += 1;
        self.ends_changed();
        self.tags[i] = tag(self.get(i), self.prefix);
    }

    /// Gives back memory that was reserved in excess, and finds out what the keys share.
    pub(super) fn finish(&mut self) {
        self.bytes.shrink_to_fit();
        self.renew();
    }

    /// The first or last key is another one: less may be shared than before.
    fn ends_changed(&mut self) {
        let shared = common(self.get(0), self.get(self.len - 1));
        if shared < self.prefix {
            self.retag(shared);
        }
    }

    fn renew(&mut self) {
        if self.len > 0 {
            self.retag(common(self.get(0), self.get(self.len - 1)));
        }
    }

    fn retag(&mut self, prefix: usize) {
        self.prefix = prefix;
        for i in 0..self.len {
            self.tags[i] = tag(self.get(i), prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that must not overflow, against a plain one; keys of few letters, so that prefixes and tags collide.
    #[test]
    fn agrees_with_a_plain_list() {
        let mut seed = 7u64;
        for round in 0..60 {
            let mut keys = Keys::default();
            let mut plain: Vec<Vec<u8>> = Vec::new();
            for _ in 0..200 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let letter = |shift: u32| (seed >> shift) as u8 % 3;
                let mut key = vec![b'p'; round % 20];
                key.extend((0..(seed >> 45) as u32 % 12).map(|i| letter(20 + i)));
                match (keys.search(&key), plain.binary_search(&key)) {
                    (Ok(i), Ok(j)) => {
                        assert_eq!(i, j);
                        keys.remove(i);
                        plain.remove(j);
                    }
                    (Err(i), Err(j)) => {
                        assert_eq!(i, j, "{key:?} in {plain:?}");
                        if keys.len() == SLOTS {
                            let right = keys.split_off(i.min(SLOTS - 1));
                            assert!(
                                (0..right.len()).map(|k| right.get(k)).eq(plain[i.min(SLOTS - 1)..].iter())
                            );
                            plain.truncate(i.min(SLOTS - 1));
                        } else {
                            keys.insert(i, &key);
                            plain.insert(j, key);
                        }
                    }
                    (i, j) => assert_eq!(i, j),
                }
                if seed >> 60 == 0 {
                    keys.finish();
                }
                assert!((0..keys.len()).map(|i| keys.get(i)).eq(plain.iter()));
                for (i, key) in plain.iter().enumerate() {
                    assert_eq!(keys.search(key), Ok(i));
                    assert_eq!(keys.search(&[&key[..], &[0]].concat()).unwrap_or_else(|i| i), i + 1);
                }
            }
        }
    }
}

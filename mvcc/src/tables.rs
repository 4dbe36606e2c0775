//! Small tables beside the keys: members, alarms, leases, users. They change in the same atomic batches as the keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// Names a small table. What a number means is the owner's affair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableId(pub u8);

/// A small ordered table. Kept in memory whole and written with every checkpoint, so it should stay small.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Table {
    entries: BTreeMap<Bytes, Bytes>,
}

impl Table {
    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.entries.get(key)
    }

    /// All entries in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.entries.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// All tables. Cloning shares them until one side writes.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    tables: BTreeMap<TableId, Arc<Table>>,
    bytes: u64,
}

/// What an absent table looks like.
static EMPTY: Table = Table { entries: BTreeMap::new() };

impl Tables {
    pub(crate) fn get(&self, id: TableId) -> &Table {
        self.tables.get(&id).map_or(&EMPTY, |table| table)
    }

    pub(crate) fn put(&mut self, id: TableId, key: Bytes, value: Bytes) {
        let added = (key.len() + value.len()) as u64;
        let key_bytes = key.len() as u64;
        let table = Arc::make_mut(self.tables.entry(id).or_default());
        let removed = table.entries.insert(key, value).map_or(0, |old| key_bytes + old.len() as u64);
        self.bytes = self.bytes + added - removed;
    }

    /// False when there was nothing to remove.
    pub(crate) fn delete(&mut self, id: TableId, key: &[u8]) -> bool {
        if self.get(id).get(key).is_none() {
            return false;
        }
        let table = Arc::make_mut(self.tables.entry(id).or_default());
        let removed = table.entries.remove(key).map_or(0, |old| (key.len() + old.len()) as u64);
        if table.entries.is_empty() {
            self.tables.remove(&id);
        }
        self.bytes -= removed;
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TableId, &Table)> {
        self.tables.iter().map(|(id, table)| (*id, &**table))
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_exactly() {
        let (mut tables, id) = (Tables::default(), TableId(3));
        tables.put(id, Bytes::from_static(b"ab"), Bytes::from_static(b"cde"));
        tables.put(id, Bytes::from_static(b"ab"), Bytes::from_static(b"c"));
        assert_eq!(tables.bytes(), 3);
        let copy = tables.clone();
        assert!(tables.delete(id, b"ab") && !tables.delete(id, b"ab"));
        assert_eq!((tables.bytes(), copy.bytes()), (0, 3));
        assert!(tables.get(id).is_empty());
        assert_eq!(copy.get(id).get(b"ab"), Some(&Bytes::from_static(b"c")));
        assert_eq!(tables, Tables::default());
    }
}

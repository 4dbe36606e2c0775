//! Making a snapshot: one view, read in the order of revisions.

use super::format::{self, CHANGES, Chunk, Cursor, DONE, END, Point, TABLES};
use super::held::{Begin, Held};
use crate::checkpoint::format::encode_table_entry;
use crate::encoding::{put_prefixed, put_varint};
use crate::error::{Fault, ReadError};
use crate::log::record::Change;
use crate::read::View;
use crate::revision::Revision;
use crate::version::Snapshot;

/// A snapshot being made. It holds a view: writes go on meanwhile, and what the view sees stays on disk.
#[derive(Debug)]
pub struct Export {
    view: View,
    at: Cursor,
    /// The change that follows the tables.
    first: Revision,
}

impl View {
    /// Makes a snapshot of this state, from `from` on: [`Cursor::START`], or where another store's export of the same state
    /// broke off.
    pub fn export(&self, from: Cursor) -> Export {
        Export { view: self.clone(), at: from, first: Revision::NONE }
    }

    /// Makes what a receiver that has `held` is missing of a snapshot of this state: what follows where the state is the same; the tables
    /// and what follows where the receiver's changes are the beginning of this state's; everything otherwise.
    pub fn export_after(&self, held: &Held) -> Export {
        match held.begin(&point(self)) {
            Begin::Here(at) => self.export(at),
            Begin::Tables(first) => Export { first, ..self.export(Cursor::START) },
        }
    }
}

fn point(view: &View) -> Point {
    let root = &view.root;
    Point { revision: root.revision, compacted: root.compacted, applied: root.applied }
}

impl Export {
    /// The next chunk, with a body of about `max_bytes`; `None` at the end. Two stores cut their streams alike when they
    /// use the same `max_bytes`.
    ///
    /// # Errors
    /// A [`Fault`] when the log cannot be read.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Chunk>, Fault> {
        let from = self.at;
        let mut body = Vec::new();
        let next = match from.stage {
            TABLES => {
                self.tables(&mut body);
                Cursor { stage: CHANGES, revision: self.first }
            }
            CHANGES => self.changes(from.revision, max_bytes, &mut body)?,
            END => {
                self.end(&mut body)?;
                Cursor { stage: DONE, revision: Revision::NONE }
            }
            _ => return Ok(None),
        };
        self.at = next;
        Ok(Some(format::encode(&point(&self.view), from, next, &body)))
    }

    /// Whether what another state's sender has sent is made use of.
    pub fn goes_on_from_another(&self) -> bool {
        self.first != Revision::NONE
    }

    fn tables(&self, body: &mut Vec<u8>) {
        for (id, table) in self.view.root.tables.iter() {
            for (key, value) in table.iter() {
                body.push(id.0);
                encode_table_entry(key, value, body);
            }
        }
    }

    fn changes(&self, from: Revision, max_bytes: usize, body: &mut Vec<u8>) -> Result<Cursor, Fault> {
        let root = &self.view.root;
        let values = &self.view.values;
        for change in values.rest.among(values.shared.log.changes(from, root.revision)) {
            let change = change?;
            if !self.is_alive(&change)? {
                continue;
            }
            if body.len() >= max_bytes {
                return Ok(Cursor { stage: CHANGES, revision: change.revision });
            }
            put_varint(change.revision.main as u64, body);
            put_varint(u64::from(change.revision.sub), body);
            put_prefixed(&change.wire, body);
        }
        Ok(Cursor { stage: END, revision: Revision::NONE })
    }

    /// Whether a change belongs to the view's logical content: it may still be in the log without.
    fn is_alive(&self, change: &Change) -> Result<bool, Fault> {
        let root = &self.view.root;
        if change.revision.main > root.compacted {
            return Ok(true);
        }
        if change.is_delete() {
            return Ok(change.revision.main == root.compacted);
        }
        let key = change.fields().key;
        let Some(head) = root.tree.get(key) else { return Ok(false) };
        let visible = Snapshot::new(root, &self.view.values, root.compacted).visible(key, head)?;
        Ok(visible.is_some_and(|visible| visible.revision == change.revision))
    }

    fn end(&self, body: &mut Vec<u8>) -> Result<(), Fault> {
        let hash = self.view.hash(0).map_err(|error| match error {
            ReadError::Fault(fault) => fault,
            other => unreachable_read(&other),
        })?;
        body.extend_from_slice(&hash.hash.to_le_bytes());
        Ok(())
    }
}

/// A view's own revision is neither compacted nor in the future; said as a fault rather than a panic.
fn unreachable_read(_: &ReadError) -> Fault {
    Fault::new(crate::error::FaultKind::Misuse { rule: "a view can be read at its own revision" })
}

//! An open file of the simulated disk.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::{Fault, Op, SimDisk, State};
use crate::direct;
use crate::disk::{Access, DiskFile};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) life: u64,
    pub(super) writable: bool,
}

/// Bytes that count as held while they live.
struct Held {
    bytes: Vec<u8>,
    _guard: Arc<()>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl SimFile {
    fn alive(&self, state: &State) -> io::Result<()> {
        if state.life == self.life { Ok(()) } else { Err(io::Error::other("the machine crashed")) }
    }

    fn enter(&self, op: Op) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.enter_plain(op, &self.path)?;
        self.alive(&state)?;
        Ok(state)
    }

    fn room(&self, state: &State, len: u64) -> io::Result<()> {
        let Some(capacity) = state.capacity else { return Ok(()) };
        let have = state.image.inodes.get(&self.number).map_or(0, |inode| inode.live.len() as u64);
        if len > have && state.image.live_bytes() + (len - have) > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn write(&self, state: &mut State, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.room(state, offset + bytes.len() as u64)?;
        let inode = state.image.inode(self.number).ok_or(io::ErrorKind::NotFound)?;
        // The same bytes once more change nothing for a reader.
        let same = inode.live.get(offset as usize..).is_some_and(|live| live.starts_with(bytes));
        let held = !same && inode.is_held(offset, bytes.len() as u64);
        inode.write(offset, bytes);
        if held {
            state.violations += 1;
        }
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            if let Some(inode) = state.image.inode(self.number) {
                inode.closed(self.disk.process);
            }
            state.image.forget(self.number);
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        self.alive(&state)?;
        let inode = state.image.inodes.get(&self.number).ok_or(io::ErrorKind::NotFound)?;
        Ok(inode.live.len() as u64)
    }

    fn read(&self, offset: u64, len: usize, access: Access) -> io::Result<Bytes> {
        let mut state = self.enter(Op::Read)?;
        let inode = state.image.inode(self.number).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start.checked_add(len).filter(|end| *end <= inode.live.len());
        let bytes = &inode.live[start.min(inode.live.len())..end.ok_or(io::ErrorKind::UnexpectedEof)?];
        if access == Access::Copy {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        let guard = Arc::new(());
        let held = Held { bytes: bytes.to_vec(), _guard: Arc::clone(&guard) };
        inode.hold(offset, len as u64, &guard);
        Ok(Bytes::from_owner(held))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
        match self.disk.enter(Op::Write, &self.path) {
            Ok(mut state) => {
                self.alive(&state)?;
                self.write(&mut state, offset, bytes)
            }
            Err((mut state, fault)) => {
                self.alive(&state)?;
                if let Fault::Short(len) = fault {
                    self.write(&mut state, offset, &bytes[..len.min(bytes.len())])?;
                }
                Err(fault.error())
            }
        }
    }

    /// In parts, as a real disk writes it: each may fail or be the last.
    fn write_uncached(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for part in direct::split(offset, bytes) {
            if !part.is_empty() {
                self.write_at(at, part)?;
                at += part.len() as u64;
            }
        }
        Ok(())
    }

    fn zero_fill(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = self.enter(Op::ZeroFill)?;
        self.room(&state, len)?;
        let inode = state.image.inode(self.number).ok_or(io::ErrorKind::NotFound)?;
        if (inode.live.len() as u64) < len {
            inode.set_len(len);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = self.enter(Op::SetLen)?;
        self.room(&state, len)?;
        let inode = state.image.inode(self.number).ok_or(io::ErrorKind::NotFound)?;
        if inode.is_held(len, u64::MAX) {
            state.violations += 1;
        } else {
            inode.set_len(len);
        }
        Ok(())
    }

    fn write_back(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.enter(Op::WriteBack).map(|_| ())
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.enter(Op::Sync, &self.path) {
            Ok(mut state) => {
                self.alive(&state)?;
                state.image.inode(self.number).ok_or(io::ErrorKind::NotFound)?.sync();
                Ok(())
            }
            Err((mut state, fault)) => {
                self.alive(&state)?;
                let state = &mut *state;
                let sector_bytes = state.sector_bytes;
                let mut image = std::mem::take(&mut state.image);
                image.fail_sync(self.number, sector_bytes, |versions| state.random(versions));
                state.image = image;
                Err(fault.error())
            }
        }
    }

    fn in_use(&self) -> bool {
        let state = self.disk.state();
        state.image.inodes.get(&self.number).is_some_and(|inode| {
            inode.handles.get(&self.disk.process).is_some_and(|count| *count > 1)
                || inode.is_held(0, u64::MAX)
        })
    }
}

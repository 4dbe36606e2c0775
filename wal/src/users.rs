//! Who uses a file in this process: open handles and memory maps, counted by what the file is, not by its name. A reader may hold
//! either longer than the log it came from, and the same folder may be opened again meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Device and inode. An inode is not given to another file while it is open or mapped.
type FileId = (u64, u64);

static USERS: Mutex<BTreeMap<FileId, usize>> = Mutex::new(BTreeMap::new());

fn users() -> MutexGuard<'static, BTreeMap<FileId, usize>> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One handle or map of a file. Counted until it is dropped.
#[derive(Debug)]
pub(crate) struct User {
    file: FileId,
}

impl User {
    pub(crate) fn of(file: &File) -> io::Result<User> {
        let metadata = file.metadata()?;
        Ok(User::new((metadata.dev(), metadata.ino())))
    }

    fn new(file: FileId) -> User {
        *users().entry(file).or_insert(0) += 1;
        User { file }
    }

    /// Another user of the same file.
    pub(crate) fn another(&self) -> User {
        User::new(self.file)
    }

    /// True when nobody else in this process uses the file.
    pub(crate) fn is_alone(&self) -> bool {
        users().get(&self.file).is_none_or(|count| *count <= 1)
    }

    pub(crate) fn inode(&self) -> u64 {
        self.file.1
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = users();
        if let Some(count) = users.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.file);
            }
        }
    }
}

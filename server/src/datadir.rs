//! The data directory: whose it is, in which format, and that only one process uses it.
//!
//! ```text
//! DIR/KETCH      marks the directory and names its format version
//! DIR/member     a file where etcd keeps a directory: etcd cannot start here by mistake
//! DIR/lock       held while a process uses the directory
//! DIR/identity   cluster id, member id
//! DIR/peers      of a member that joined: the members as its peers told
//! DIR/boot       how often the member was started; part of every request id
//! DIR/log/       the raft log
//! DIR/store/     the revision store, or what a snapshot left of it
//! DIR/store-2/   its other half: a snapshot is staged in the half that is not current
//! DIR/current    which half is the member's store: 0 or 1; absent means the first
//! DIR/restoring  while a snapshot is being restored: until then there is no marker
//! ```
//!
//! With `--wal-dir` the raft log is elsewhere, and a copy of the identity beside it says whose it is:
//!
//! ```text
//! WAL/lock       held while a process uses the log
//! WAL/identity   cluster id, member id
//! WAL/log/       the raft log
//! ```

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ketch_wal::Disk;
use ketch_wal::blob;

use crate::cluster::Member;

/// The format version that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

const MARKER: &str = "KETCH";
const MARKER_TEXT: &str = "ketch data directory, format ";
const GUARD: &str = "member";
const GUARD_TEXT: &str =
    "This directory belongs to ketch, not to etcd. This file keeps etcd from starting in it.\n";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
/// The file that counts the starts: where it is, the member was started.
pub(crate) const BOOT: &str = "boot";
const LOG: &str = "log";
const STORE: &str = "store";
const STORE_2: &str = "store-2";
const PEERS: &str = "peers";
const CURRENT: &str = "current";
const RESTORING: &str = "restoring";

/// One of the two folders that a store may live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `store`.
    First,
    /// `store-2`.
    Second,
}

impl Half {
    /// The folder's name.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Half::First => STORE,
            Half::Second => STORE_2,
        }
    }

    /// The one where the store is not.
    #[must_use]
    pub fn other(self) -> Half {
        match self {
            Half::First => Half::Second,
            Half::Second => Half::First,
        }
    }
}

/// Makes `half` the member's store, durably; a crash leaves the earlier one or this one.
///
/// # Errors
/// What the disk says.
pub fn set_current(disk: &dyn Disk, dir: &Path, half: Half) -> Result<(), DataDirError> {
    write(disk, &dir.join(CURRENT), &[u8::from(half == Half::Second)])
}

/// Removes the files of a store that nobody reads any more. What cannot be removed stays; whoever uses the folder next
/// notices.
pub fn empty_folder(disk: &dyn Disk, folder: &Path) {
    for part in [folder.join(LOG), folder.to_owned()] {
        for name in disk.list(&part).unwrap_or_default() {
            let _stays = disk.remove(&part.join(name));
        }
        let _later = disk.sync_dir(&part);
    }
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// It holds etcd's data.
    OfEtcd(PathBuf),
    /// It is of a format that this program does not know.
    Format(PathBuf, String),
    /// Another process is using it.
    InUse(PathBuf),
    /// It holds files under our names but no marker.
    Foreign(PathBuf, String),
    /// A restore of a snapshot was cut short in it.
    Unfinished(PathBuf),
    /// It is to be made anew and holds something already.
    NotEmpty(PathBuf),
    /// The directory for the raft log is to be made anew and is there already.
    LogExists(PathBuf),
    /// The directory for the raft log does not hold this member's.
    LogOfAnother(PathBuf),
    /// A file of ours is damaged.
    Damaged(PathBuf, String),
    /// The operating system refused something.
    Io(PathBuf, io::Error),
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfEtcd(dir) => write!(
                f,
                "data directory {} holds the data of etcd, which ketch does not open; \
                 start with an empty --data-dir",
                dir.display()
            ),
            Self::Format(dir, found) => write!(
                f,
                "data directory {} has the format {found:?}, this ketch knows format {FORMAT_VERSION} only",
                dir.display()
            ),
            Self::InUse(dir) => write!(f, "data directory {} is in use by another process", dir.display()),
            Self::Foreign(dir, name) => write!(
                f,
                "data directory {} holds {name:?} but is not marked as a ketch data directory (no file {MARKER})",
                dir.display()
            ),
            Self::Unfinished(dir) => write!(
                f,
                "data directory {} is what a restore left that was cut short: remove it and restore again",
                dir.display()
            ),
            Self::NotEmpty(dir) => {
                write!(f, "data-dir {:?} not empty or could not be read", dir.display().to_string())
            }
            Self::LogExists(dir) => write!(f, "wal-dir {:?} exists", dir.display().to_string()),
            Self::LogOfAnother(dir) => write!(
                f,
                "wal-dir {} does not hold the raft log of the member in the data directory",
                dir.display()
            ),
            Self::Damaged(file, why) => write!(f, "{} is damaged: {why}", file.display()),
            Self::Io(path, error) => write!(f, "cannot use {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

/// Who this member is, once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
}

/// A data directory in use by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Where the raft log is kept, if not here.
    log_apart: Option<PathBuf>,
    _locks: Vec<Box<dyn Any + Send + Sync>>,
}

impl DataDir {
    /// Takes the directory at `path`, which is made and marked if it is new.
    ///
    /// # Errors
    /// See [`DataDirError`]; a directory that is not ours is left as it was.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<DataDir, DataDirError> {
        let io = |error| DataDirError::Io(path.to_owned(), error);
        disk.create_dir_all(path).map_err(io)?;
        let names = disk.list(path).map_err(io)?;
        let marked = names.iter().any(|name| name == MARKER);
        if !marked {
            refuse_foreign(disk, path, &names)?;
        }
        let dir = DataDir { path: path.to_owned(), log_apart: None, _locks: vec![lock(disk, path)?] };
        if marked {
            dir.check_marker(disk)?;
        } else {
            dir.mark(disk)?;
        }
        Ok(dir)
    }

    /// Begins a directory that is to be filled before it may be used: until [`finish`](Self::finish) nothing starts in it.
    ///
    /// # Errors
    /// [`DataDirError::NotEmpty`], or what the disk says.
    pub fn prepare(disk: &dyn Disk, path: &Path) -> Result<DataDir, DataDirError> {
        let io = |error| DataDirError::Io(path.to_owned(), error);
        disk.create_dir_all(path).map_err(io)?;
        let parts = [GUARD, LOG, STORE];
        let taken = parts.iter().any(|part| disk.list(&path.join(part)).is_ok());
        if taken || !disk.list(path).map_err(io)?.is_empty() {
            return Err(DataDirError::NotEmpty(path.to_owned()));
        }
        let restoring = path.join(RESTORING);
        disk.create(&restoring).and_then(|file| file.sync()).map_err(io)?;
        disk.sync_dir(path).map_err(io)?;
        Ok(DataDir { path: path.to_owned(), log_apart: None, _locks: vec![lock(disk, path)?] })
    }

    /// The same with the raft log in another directory, which is made if it is not there. If this one is somebody's, so must
    /// that one be.
    ///
    /// # Errors
    /// [`DataDirError::InUse`], [`DataDirError::LogOfAnother`], or what the disk says.
    pub fn with_log_in(mut self, disk: &dyn Disk, path: &Path) -> Result<DataDir, DataDirError> {
        disk.create_dir_all(path).map_err(|error| DataDirError::Io(path.to_owned(), error))?;
        self._locks.push(lock(disk, path)?);
        let started = self.boots(disk)? > 0;
        let of_another = || DataDirError::LogOfAnother(path.to_owned());
        match (self.identity(disk)?, identity_in(disk, path)?) {
            (Some(own), Some(log)) if own == log => {}
            (_, None) if !started => {}
            _ => return Err(of_another()),
        }
        self.log_apart = Some(path.to_owned());
        Ok(self)
    }

    /// Everything is there and durable: from now on the directory is a member's.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&self, disk: &dyn Disk) -> Result<(), DataDirError> {
        self.mark(disk)?;
        let removed = disk.remove(&self.path.join(RESTORING)).and_then(|()| disk.sync_dir(&self.path));
        removed.map_err(|error| DataDirError::Io(self.path.clone(), error))
    }

    /// The directory of the raft log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.log_apart.as_ref().unwrap_or(&self.path).join(LOG)
    }

    /// The directory of the revision store of a new member.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Which half is the member's store.
    ///
    /// # Errors
    /// A damaged file.
    pub fn current(&self, disk: &dyn Disk) -> Result<Half, DataDirError> {
        let path = self.path.join(CURRENT);
        match read(disk, &path)?.as_deref() {
            None | Some([0]) => Ok(Half::First),
            Some([1]) => Ok(Half::Second),
            Some(other) => Err(DataDirError::Damaged(path, format!("it names no half: {other:?}"))),
        }
    }

    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the member is; `None` in a new directory.
    ///
    /// # Errors
    /// A damaged file.
    pub fn identity(&self, disk: &dyn Disk) -> Result<Option<Identity>, DataDirError> {
        identity_in(disk, &self.path)
    }

    /// Writes down who the member is, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_identity(&self, disk: &dyn Disk, identity: Identity) -> Result<(), DataDirError> {
        let bytes = [identity.cluster_id.to_le_bytes(), identity.member_id.to_le_bytes()].concat();
        // Here first: where only the log has one, it is another member's.
        let places = std::iter::once(&self.path).chain(&self.log_apart);
        places.map(|path| path.join(IDENTITY)).try_for_each(|path| write(disk, &path, &bytes))
    }

    /// Whom a member that joins knew of, before it learned of the members by itself.
    ///
    /// # Errors
    /// A damaged file.
    pub fn peers(&self, disk: &dyn Disk) -> Result<Vec<Member>, DataDirError> {
        let path = self.path.join(PEERS);
        let Some(bytes) = read(disk, &path)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).map_err(|error| DataDirError::Damaged(path, error.to_string()))
    }

    /// Writes down whom a member that joins knows of, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_peers(&self, disk: &dyn Disk, members: &[Member]) -> Result<(), DataDirError> {
        // Numbers, booleans and strings only: this cannot fail.
        write(disk, &self.path.join(PEERS), &serde_json::to_vec(members).unwrap_or_default())
    }

    /// How often the member was started before.
    ///
    /// # Errors
    /// A damaged file.
    pub fn boots(&self, disk: &dyn Disk) -> Result<u64, DataDirError> {
        let path = self.path.join(BOOT);
        let Some(bytes) = read(disk, &path)? else { return Ok(0) };
        word(&bytes, 0)
            .filter(|_| bytes.len() == 8)
            .ok_or_else(|| DataDirError::Damaged(path, format!("{} bytes instead of 8", bytes.len())))
    }

    /// Counts one more start, durably, and returns its number. No two lives of a member share one.
    ///
    /// # Errors
    /// What the disk says, or a damaged file.
    pub fn next_boot(&self, disk: &dyn Disk) -> Result<u64, DataDirError> {
        let boot = self.boots(disk)? + 1;
        write(disk, &self.path.join(BOOT), &boot.to_le_bytes())?;
        Ok(boot)
    }

    fn mark(&self, disk: &dyn Disk) -> Result<(), DataDirError> {
        let guard = self.path.join(GUARD);
        let guarded = || -> io::Result<()> {
            match disk.create(&guard) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    let file = created?;
                    file.write_at(0, GUARD_TEXT.as_bytes())?;
                    file.sync()?;
                }
            }
            disk.sync_dir(&self.path)
        };
        guarded().map_err(|error| DataDirError::Io(guard.clone(), error))?;
        write(disk, &self.path.join(MARKER), format!("{MARKER_TEXT}{FORMAT_VERSION}\n").as_bytes())
    }

    fn check_marker(&self, disk: &dyn Disk) -> Result<(), DataDirError> {
        let path = self.path.join(MARKER);
        let bytes = read(disk, &path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let found = text.trim_end().strip_prefix(MARKER_TEXT).unwrap_or(&text);
        if found == FORMAT_VERSION.to_string() {
            Ok(())
        } else {
            Err(DataDirError::Format(self.path.clone(), found.to_owned()))
        }
    }
}

/// A directory without our marker may hold anything but etcd's data or files under our names.
fn refuse_foreign(disk: &dyn Disk, path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let is_dir = |name: &str| disk.list(&path.join(name)).is_ok();
    if names.iter().any(|name| name == RESTORING) {
        return Err(DataDirError::Unfinished(path.to_owned()));
    }
    if is_dir(GUARD) {
        return Err(DataDirError::OfEtcd(path.to_owned()));
    }
    let is_there = |name: &&str| names.iter().any(|found| found == name) || is_dir(name);
    match [IDENTITY, BOOT, LOG, STORE].into_iter().find(is_there) {
        Some(name) => Err(DataDirError::Foreign(path.to_owned(), name.to_owned())),
        None => Ok(()),
    }
}

/// Takes a directory for this process.
fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn Any + Send + Sync>, DataDirError> {
    let lock = path.join(LOCK);
    disk.lock(&lock).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DataDirError::InUse(path.to_owned()),
        _ => DataDirError::Io(lock, error),
    })
}

fn identity_in(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DataDirError> {
    let path = path.join(IDENTITY);
    let Some(bytes) = read(disk, &path)? else { return Ok(None) };
    match (word(&bytes, 0), word(&bytes, 8)) {
        (Some(cluster_id), Some(member_id)) if bytes.len() == 16 => {
            Ok(Some(Identity { cluster_id, member_id }))
        }
        _ => Err(DataDirError::Damaged(path, format!("{} bytes instead of 16", bytes.len()))),
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<bytes::Bytes>, DataDirError> {
    blob::read(disk, path).map_err(|error| DataDirError::Damaged(path.to_owned(), error.to_string()))
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    blob::write(disk, path, bytes).map_err(|error| DataDirError::Io(path.to_owned(), error))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

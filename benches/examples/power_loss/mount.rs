//! The simulated disk as a file system: one folder, `log`, of files. Writes come through at once (the kernel caches reads only); what is
//! durable is the simulated disk's affair.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
};
use ketch_wal::{Access, Disk, DiskFile, SimDisk};

const TTL: Duration = Duration::ZERO;
const ROOT: u64 = 1;
const LOG: u64 = 2;

/// Files by inode; a name that was removed leaves the file to those who have it open.
struct Forgetful {
    disk: Arc<SimDisk>,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    names: BTreeMap<PathBuf, u64>,
    next: u64,
}

/// Mounts the disk until the session is dropped.
pub(crate) fn mount(disk: &Arc<SimDisk>, at: &Path) -> io::Result<BackgroundSession> {
    disk.create_dir_all(Path::new("/log"))?;
    let mut system =
        Forgetful { disk: Arc::clone(disk), files: BTreeMap::new(), names: BTreeMap::new(), next: 3 };
    for path in disk.paths() {
        let file = disk.open(&path, true)?;
        system.enter(path, file);
    }
    fuser::spawn_mount2(system, at, &[MountOption::FSName("forgetful".to_owned())])
}

fn code(error: &io::Error) -> i32 {
    match error.kind() {
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::AlreadyExists => libc::EEXIST,
        io::ErrorKind::StorageFull => libc::ENOSPC,
        _ => libc::EIO,
    }
}

fn path(parent: u64, name: &OsStr) -> Result<PathBuf, i32> {
    if parent == LOG { Ok(Path::new("/log").join(name)) } else { Err(libc::ENOENT) }
}

impl Forgetful {
    fn enter(&mut self, path: PathBuf, file: Arc<dyn DiskFile>) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.files.insert(inode, file);
        self.names.insert(path, inode);
        inode
    }

    fn file(&self, inode: u64) -> Result<&Arc<dyn DiskFile>, i32> {
        self.files.get(&inode).ok_or(libc::ENOENT)
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, i32> {
        let folder = inode <= LOG;
        let size = if folder { 0 } else { self.file(inode)?.len().map_err(|error| code(&error))? };
        let time = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if folder { FileType::Directory } else { FileType::RegularFile },
            perm: if folder { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn find(&self, parent: u64, name: &OsStr) -> Result<FileAttr, i32> {
        if parent == ROOT && name == "log" {
            return self.attributes(LOG);
        }
        let inode = self.names.get(&path(parent, name)?).ok_or(libc::ENOENT)?;
        self.attributes(*inode)
    }

    fn make(&mut self, parent: u64, name: &OsStr) -> Result<FileAttr, i32> {
        let path = path(parent, name)?;
        let file = self.disk.create(&path).map_err(|error| code(&error))?;
        let inode = self.enter(path, file);
        self.attributes(inode)
    }

    fn forget_name(&mut self, parent: u64, name: &OsStr) -> Result<(), i32> {
        let path = path(parent, name)?;
        self.disk.remove(&path).map_err(|error| code(&error))?;
        self.names.remove(&path);
        Ok(())
    }

    fn give_name(&mut self, from: Result<PathBuf, i32>, to: Result<PathBuf, i32>) -> Result<(), i32> {
        let (from, to) = (from?, to?);
        self.disk.rename(&from, &to).map_err(|error| code(&error))?;
        if let Some(inode) = self.names.remove(&from) {
            self.names.insert(to, inode);
        }
        Ok(())
    }

    fn read_some(&self, inode: u64, offset: u64, size: u64) -> Result<Vec<u8>, i32> {
        let file = self.file(inode)?;
        let len = file.len().map_err(|error| code(&error))?.saturating_sub(offset).min(size);
        let bytes = file.read(offset, len as usize, Access::Copy).map_err(|error| code(&error))?;
        Ok(bytes.to_vec())
    }

    fn act(&self, inode: u64, act: impl FnOnce(&dyn DiskFile) -> io::Result<()>) -> Result<(), i32> {
        act(&**self.file(inode)?).map_err(|error| code(&error))
    }
}

fn empty(outcome: Result<(), i32>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(code) => reply.error(code),
    }
}

impl Filesystem for Forgetful {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, 0),
            Err(code) => reply.error(code),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(code) => reply.error(code),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let outcome = size.map_or(Ok(()), |size| self.act(inode, |file| file.set_len(size)));
        match outcome.and_then(|()| self.attributes(inode)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(code) => reply.error(code),
        }
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name) {
            Ok(attributes) => reply.created(&TTL, &attributes, 0, 0, 0),
            Err(code) => reply.error(code),
        }
    }

    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        reply.opened(0, 0);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        match self.read_some(inode, offset as u64, u64::from(size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(code) => reply.error(code),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        inode: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match self.act(inode, |file| file.write_at(offset as u64, data)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(code) => reply.error(code),
        }
    }

    fn fsync(&mut self, _: &Request<'_>, inode: u64, _: u64, _: bool, reply: ReplyEmpty) {
        empty(self.act(inode, |file| file.sync()), reply);
    }

    fn fsyncdir(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        empty(self.disk.sync_dir(Path::new("/log")).map_err(|error| code(&error)), reply);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(self.forget_name(parent, name), reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        _: u32,
        reply: ReplyEmpty,
    ) {
        empty(self.give_name(path(parent, name), path(new_parent, new_name)), reply);
    }

    fn readdir(&mut self, _: &Request<'_>, inode: u64, _: u64, offset: i64, mut reply: ReplyDirectory) {
        let names: Vec<_> = match inode {
            ROOT => vec![(LOG, FileType::Directory, "log".into())],
            _ => self
                .names
                .iter()
                .map(|(path, inode)| {
                    (*inode, FileType::RegularFile, path.file_name().unwrap_or_default().to_owned())
                })
                .collect(),
        };
        for (at, (inode, kind, name)) in names.into_iter().enumerate().skip(offset as usize) {
            if reply.add(inode, at as i64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

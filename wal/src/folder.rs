//! The files in a log's folder, as a recovery finds them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Access, Disk, DiskFile};
use crate::error::{Damage, OpenError};
use crate::format::{FORMAT_VERSION, HEADER_BYTES, Seed};
use crate::header::{HeaderError, SegmentHeader};
use crate::position::SegmentId;
use crate::scan::Scanner;
use crate::segment::{self, Name};
use crate::walk::Walk;

/// A file with the name and the header of a segment.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// Set once the end is known.
    pub(crate) end: u64,
    pub(crate) footer: u64,
    pub(crate) sealed: bool,
    /// Set once it was found whole: the segment that it names as the next, and the walk as it left it.
    pub(crate) whole: Option<(u64, Walk)>,
}

impl SegmentFile {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.header.log_id, self.header.segment, 1)
    }

    pub(crate) fn scanner(&self) -> Scanner {
        Scanner::new(Arc::clone(&self.file), self.len, Access::Copy)
    }

    /// Looks again: nothing when it is another segment by now.
    fn still(mut self) -> Option<SegmentFile> {
        self.len = self.file.len().ok()?;
        let block = self.file.read(0, HEADER_BYTES as usize, Access::Copy).ok()?;
        if self.whole.is_none() {
            (self.end, self.footer, self.sealed) = (0, 0, false);
        }
        (SegmentHeader::decode(&block).as_ref() == Ok(&self.header)).then_some(self)
    }
}

/// What lies in the folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) segments: BTreeMap<u64, SegmentFile>,
    pub(crate) temporary: Vec<PathBuf>,
    pub(crate) foreign: Vec<PathBuf>,
    /// Opened for writing, so nobody else writes.
    pub(crate) writable: bool,
    /// All names, as they were listed.
    pub(crate) names: Vec<String>,
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, OpenError> {
    disk.list(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::NotALog { dir: dir.to_owned() },
        _ => OpenError::io("list", dir, error),
    })
}

impl Folder {
    /// Looks at every file. What an earlier look found and is still there is kept.
    pub(crate) fn look(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        let mut known = std::mem::take(&mut self.segments);
        self.temporary.clear();
        self.foreign.clear();
        self.names = list(disk, dir)?;
        for name in &self.names {
            let path = dir.join(name);
            match segment::parse_name(name) {
                Name::Segment(id) => {
                    let file = match known.remove(&id).and_then(SegmentFile::still) {
                        Some(file) => file,
                        None => open_segment(disk, id, path, self.writable)?,
                    };
                    self.segments.insert(id, file);
                }
                Name::Temporary => self.temporary.push(path),
                Name::Odd => {
                    let reason = "its name is not one that the log gives".to_owned();
                    return Err(OpenError::Foreign { path, reason });
                }
                Name::Foreign if name == crate::open::LOCK_NAME => {}
                Name::Foreign => self.foreign.push(path),
            }
        }
        Ok(())
    }

    /// True when files came or went since the last look.
    pub(crate) fn changed(&self, disk: &dyn Disk, dir: &Path) -> bool {
        list(disk, dir).is_ok_and(|names| names != self.names)
    }
}

fn open_segment(disk: &dyn Disk, id: u64, path: PathBuf, writable: bool) -> Result<SegmentFile, OpenError> {
    let foreign = |path: &Path, reason: String| OpenError::Foreign { path: path.to_owned(), reason };
    let file = disk.open(&path, writable).map_err(|e| OpenError::io("open", &path, e))?;
    let len = file.len().map_err(|e| OpenError::io("measure", &path, e))?;
    let block = usize::try_from(len.min(HEADER_BYTES)).unwrap_or(0);
    let block = file.read(0, block, Access::Copy).map_err(|e| OpenError::io("read", &path, e))?;
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => header,
        Err(HeaderError::Short) => {
            return Err(foreign(&path, format!("it has {len} bytes, a segment has at least {HEADER_BYTES}")));
        }
        Err(HeaderError::Magic) => return Err(foreign(&path, "it does not begin as a segment".to_owned())),
        Err(HeaderError::Version(found)) => {
            return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
        }
        Err(HeaderError::Check) => {
            return Err(OpenError::Damage(Damage {
                segment: SegmentId(id),
                offset: 0,
                expected: "a segment header".to_owned(),
                found: "a header whose checksum does not match".to_owned(),
                proof: "a header is durable before the file gets its name".to_owned(),
            }));
        }
    };
    if header.segment != id {
        return Err(foreign(&path, format!("it is segment {}, a copy or a renamed file", header.segment)));
    }
    Ok(SegmentFile { header, file, path, len, end: 0, footer: 0, sealed: false, whole: None })
}

//! Following a fleet file.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    fleet::{Fleet, Warning},
    toml_file::FileError,
};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// Also when a file is written in place and given its former time of modification.
    changed: (i64, i64),
}

/// Looks at a file that is different each time, after which it is read as it is.
const UNSETTLED_MAX: u8 = 4;

/// A fleet file and the state of it that was read last.
///
/// Polled rather than watched: it works for files that are renamed into place, for links that are
/// switched (as Kubernetes does), and on every file system.
pub struct FleetFile {
    path: PathBuf,
    read: Option<Stamp>,
    /// A new state, seen once: it is read when it has stood still for one poll, so that a file is
    /// rarely read while it is being written.
    settling: Option<Option<Stamp>>,
    /// How often in a row it had not stood still.
    unsettled: u8,
}

impl FleetFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn open(path: &Path) -> Result<(Self, Fleet, Vec<Warning>), FileError> {
        let read = stamp(path);
        let (fleet, warnings) = Fleet::read(path)?;
        Ok((Self { path: path.to_owned(), read, settling: None, unsettled: 0 }, fleet, warnings))
    }

    /// The file that is followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file: `None` while there is nothing new. To be called a few times a second.
    pub fn poll(&mut self) -> Option<Result<(Fleet, Vec<Warning>), FileError>> {
        let now = stamp(&self.path);
        if now == self.read {
            (self.settling, self.unsettled) = (None, 0);
            return None;
        }
        if self.settling != Some(now) && self.unsettled < UNSETTLED_MAX {
            self.settling = Some(now);
            self.unsettled += 1;
            return None;
        }
        Some(self.reread())
    }

    /// Reads the file, changed or not.
    ///
    /// # Errors
    /// One sentence naming the file and the key at fault.
    pub fn reread(&mut self) -> Result<(Fleet, Vec<Warning>), FileError> {
        (self.settling, self.unsettled) = (None, 0);
        self.read = stamp(&self.path);
        Fleet::read(&self.path)
    }
}

/// `None` for a file that is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata: io::Result<_> = fs::metadata(path);
    metadata.ok().map(|metadata| Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        len: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

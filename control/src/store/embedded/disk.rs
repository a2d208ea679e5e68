//! The store's file: what outlives the process, in a redb database.
//!
//! Each save is one transaction, on disk when it returns. It is committed in two phases, so that a file
//! that has rotted is refused: with one phase the database would fall back to the transaction before,
//! and a revision that others have seen would come again with something else in it. (One bit of the
//! database's header is beyond that: of a file that was never closed, it says which commit is newer.)

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableHandle,
};

use super::state::{Saved, Unsaved};
use crate::store::{Entry, LeaseId, Revision, rules};

/// Numbers by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Key to entry.
const ENTRIES: TableDefinition<'_, &str, Row<'_>> = TableDefinition::new("entries");
/// The revisions in which an entry was created and modified, its lease and its value.
type Row<'a> = (u64, u64, Option<u64>, &'a [u8]);
/// Lease to its whole time in nanoseconds.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");

/// The layout of the tables above.
const FORMAT: u64 = 1;
/// The state is in memory, so the database needs only what it is about to write.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a store's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It is not a store's file.
    #[error("{} is not the file of a store: {}", .0.display(), .1)]
    Foreign(PathBuf, String),
    /// It is a store's file, but not as a store left it.
    #[error("{} is damaged: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// The system refuses.
    #[error("cannot open {}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

/// An open file, which no other process has open.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    path: PathBuf,
}

impl Disk {
    /// Opens a file, or makes it; nobody but its owner may read it, for it may hold keys. Takes as long
    /// as reading all of it. `first_lease` is where a new store begins.
    pub(super) fn open(path: &Path, first_lease: LeaseId) -> Result<(Self, Saved), OpenError> {
        let refused = |error| OpenError::Io(path.into(), error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(refused)?;
        let mut database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| unopened(path, error))?;
        // Asked of the database, not of the file's length: only now nobody else can be making it.
        if is_new(&database).map_err(|error| unreadable(path, error))? {
            make(&database, first_lease).map_err(|error| unreadable(path, error))?;
            sync_parent(path).map_err(refused)?;
        } else if !database.check_integrity().map_err(|error| unopened(path, error))? {
            return Err(OpenError::Damaged(path.into(), "its checksums do not match".into()));
        }
        let saved = load(&database, path)?;
        Ok((Self { database, path: path.into() }, saved))
    }

    /// A new one on something else than a file.
    #[cfg(test)]
    pub(super) fn on(backend: impl redb::StorageBackend) -> Self {
        let database = Builder::new().create_with_backend(backend).expect("a new database");
        make(&database, LeaseId(0)).expect("a new store");
        Self { database, path: "memory".into() }
    }

    /// Saves what has changed. Where it fails it is not known whether it is saved.
    pub(super) fn save(&self, unsaved: &Unsaved) -> Result<(), String> {
        write(&self.database, unsaved)
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

fn is_new(database: &Database) -> Result<bool, redb::Error> {
    Ok(database.begin_read()?.list_tables()?.next().is_none())
}

fn make(database: &Database, first_lease: LeaseId) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_two_phase_commit(true);
    {
        let mut meta = txn.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", 0)?;
        meta.insert("last_lease", first_lease.0)?;
        txn.open_table(ENTRIES)?;
        txn.open_table(LEASES)?;
    }
    txn.commit()?;
    Ok(())
}

fn write(database: &Database, unsaved: &Unsaved) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.set_two_phase_commit(true);
    {
        let mut meta = txn.open_table(META)?;
        meta.insert("revision", unsaved.revision.0)?;
        meta.insert("last_lease", unsaved.last_lease.0)?;
        let mut entries = txn.open_table(ENTRIES)?;
        for (key, entry) in &unsaved.entries {
            match entry {
                Some(entry) => {
                    let lease = entry.lease.map(|id| id.0);
                    let row = (entry.created.0, entry.modified.0, lease, &*entry.value);
                    entries.insert(&**key, row)?;
                }
                None => drop(entries.remove(&**key)?),
            }
        }
        let mut leases = txn.open_table(LEASES)?;
        for (id, ttl) in &unsaved.leases {
            match ttl {
                Some(ttl) => {
                    let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
                    leases.insert(id.0, nanos)?;
                }
                None => drop(leases.remove(id.0)?),
            }
        }
    }
    txn.commit()?;
    Ok(())
}

/// Reads everything, and believes nothing that cannot be.
fn load(database: &Database, path: &Path) -> Result<Saved, OpenError> {
    let foreign = |why: String| OpenError::Foreign(path.into(), why);
    let damaged = |why: String| OpenError::Damaged(path.into(), why);
    let txn = database.begin_read().map_err(|error| unreadable(path, error))?;
    let tables = txn.list_tables().map_err(|error| unreadable(path, error))?;
    let mut names: Vec<String> = tables.map(|table| table.name().into()).collect();
    names.sort_unstable();
    if names != ["entries", "leases", "meta"] {
        return Err(foreign("it is a redb database with other tables".into()));
    }

    let meta = txn.open_table(META).map_err(|error| foreign(error.to_string()))?;
    let number = |name: &str| match meta.get(name) {
        Ok(Some(number)) => Ok(number.value()),
        Ok(None) => Err(foreign(format!("its table meta has no {name}"))),
        Err(error) => Err(unreadable(path, error)),
    };
    let format = number("format")?;
    if format != FORMAT {
        return Err(foreign(format!("it has format {format}, this program reads {FORMAT}")));
    }
    let mut saved = Saved {
        revision: Revision(number("revision")?),
        last_lease: LeaseId(number("last_lease")?),
        entries: Vec::new(),
        leases: Vec::new(),
    };

    let leases = txn.open_table(LEASES).map_err(|error| foreign(error.to_string()))?;
    for row in leases.iter().map_err(|error| unreadable(path, error))? {
        let (id, nanos) = row.map_err(|error| unreadable(path, error))?;
        saved.leases.push((LeaseId(id.value()), Duration::from_nanos(nanos.value())));
    }
    let known: BTreeSet<LeaseId> = saved.leases.iter().map(|(id, _)| *id).collect();
    if known.last().is_some_and(|id| *id > saved.last_lease) {
        return Err(damaged("it has a lease that was never granted".into()));
    }

    let entries = txn.open_table(ENTRIES).map_err(|error| foreign(error.to_string()))?;
    for row in entries.iter().map_err(|error| unreadable(path, error))? {
        let (key, row) = row.map_err(|error| unreadable(path, error))?;
        let (created, modified, lease, value) = row.value();
        let entry = Entry {
            key: key.value().into(),
            value: value.into(),
            created: Revision(created),
            modified: Revision(modified),
            lease: lease.map(LeaseId),
        };
        rules::check_key(&entry.key).map_err(|error| damaged(error.to_string()))?;
        if !(Revision(1) <= entry.created
            && entry.created <= entry.modified
            && entry.modified <= saved.revision)
        {
            return Err(damaged(format!("key {:?} is of no revision it can be of", entry.key)));
        }
        if entry.lease.is_some_and(|id| !known.contains(&id)) {
            return Err(damaged(format!(
                "key {:?} goes with a lease that is not there",
                entry.key
            )));
        }
        saved.entries.push(entry);
    }
    Ok(saved)
}

fn unopened(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path.into()),
        // What the database says of a file whose first bytes are not its own.
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::InvalidData =>
        {
            OpenError::Foreign(path.into(), error.to_string())
        }
        error => unreadable(path, error),
    }
}

fn unreadable(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    match error.into() {
        redb::Error::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            OpenError::Io(path.into(), error)
        }
        error => OpenError::Damaged(path.into(), error.to_string()),
    }
}

/// A new file is there after a crash only if its directory says so on disk.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

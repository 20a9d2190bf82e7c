use std::{
    fmt,
    fs::{self, OpenOptions},
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{
    BackendError, Database, DatabaseError, ReadableDatabase as _, StorageBackend, TableDefinition,
    TableError, backends::FileBackend,
};

use super::{Batch, Damage, MAX_BATCH, Row, Store, StoreError, Table};
use crate::actor::panic_text;

/// Bytes of the file. What would be more is refused as a full disk is; a file that is larger was not made here.
pub const MAX_FILE: u64 = 256 * 1024 * 1024;
/// Damaged files that are kept: `NAME.damaged-1` and so on. The next one takes the place of the last.
pub const MAX_DAMAGED: u32 = 3;
/// The version of what the tables hold. A file of a later one is refused and left alone.
pub const SCHEMA: u32 = 1;

const META: TableDefinition<'_, &str, u32> = TableDefinition::new("peerage");
const SCHEMA_KEY: &str = "schema";
/// Bytes that redb keeps in memory; it would take a gigabyte.
const CACHE: usize = 4 * 1024 * 1024;

/// A store in one file, in redb's format.
///
/// After a failed write the file is closed, and opened again by the next call: redb does not go on after an error, and
/// repairs what it finds. A damaged file is renamed to `NAME.damaged-N`, and an empty one takes its place.
pub struct FileStore {
    disk: Box<dyn Disk>,
    database: Option<Database>,
    damage: Option<Damage>,
}

/// Why a store cannot be used at all, which is for the user to decide about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another node has it open.
    #[error("another process is using it")]
    InUse,
    /// A later version of Peerage wrote it.
    #[error("it was written by a later version (schema {found}, this one knows {SCHEMA})")]
    Newer {
        /// The version of its tables.
        found: u32,
    },
    /// It cannot be opened: its directory is missing, or it may not be read or written, or is no file.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Where the file is, and what is done with it beside reading and writing. A seam for tests that let it fail.
pub(super) trait Disk: Send {
    /// Opens the file, an empty one if there is none.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Moves the file out of the way, and says where to.
    fn set_aside(&self) -> io::Result<PathBuf>;
}

impl FileStore {
    /// Opens the file at `path`, or makes it. Its directory has to be there.
    ///
    /// A damaged file is set aside. A disk that is full or fails does not keep a node from starting: the store tries
    /// again at each use.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::on(Place(path.into()))
    }

    pub(super) fn on(disk: impl Disk + 'static) -> Result<Self, OpenError> {
        let mut this = Self { disk: Box::new(disk), database: None, damage: None };
        match this.reopen() {
            Ok(()) => Ok(this),
            Err(Failed::Store(error)) => match error {
                StoreError::Io(error) if is_users(&error) => Err(OpenError::Io(error)),
                error => {
                    tracing::warn!(%error, "the store cannot be opened yet");
                    Ok(this)
                }
            },
            Err(Failed::InUse) => Err(OpenError::InUse),
            Err(Failed::Newer(found)) => Err(OpenError::Newer { found }),
        }
    }

    /// Opens the file; a damaged one is set aside, once.
    fn reopen(&mut self) -> Result<(), Failed> {
        let opened = match open(self.disk.as_ref()) {
            Err(Failed::Store(StoreError::Damaged(why))) => {
                let moved_to = self.disk.set_aside()?;
                self.damage = Some(Damage { moved_to, why });
                open(self.disk.as_ref())
            }
            opened => opened,
        };
        self.database = Some(opened?);
        Ok(())
    }

    /// Runs `job` on the open file. On an error the file is closed, so that the next use finds a fresh one.
    fn with<T>(&mut self, job: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        if self.database.is_none() {
            self.reopen().map_err(|failed| match failed {
                Failed::Store(error) => error,
                Failed::InUse => io::Error::other(OpenError::InUse).into(),
                Failed::Newer(found) => io::Error::other(OpenError::Newer { found }).into(),
            })?;
        }
        let Some(database) = self.database.take() else {
            return Err(io::Error::other("the store is closed").into());
        };
        // Where redb meets bytes that it did not write, it may panic rather than return.
        let result = catch_unwind(AssertUnwindSafe(|| job(&database)));
        let error = match result {
            Ok(Ok(value)) => {
                self.database = Some(database);
                return Ok(value);
            }
            Ok(Err(error)) => store_error(error),
            Err(panic) => StoreError::Damaged(panic_text(panic.as_ref())),
        };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        Err(error)
    }
}

impl Store for FileStore {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|database| {
            let table = match database.begin_read()?.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let value = table.get_owned(key)?.map(|value| value.value().to_vec());
            Ok(value)
        })
    }

    fn scan(&mut self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.with(|database| {
            let table = match database.begin_read()?.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rows = table.range_owned::<&[u8]>((from, Bound::Unbounded))?.take(limit.min(MAX_BATCH));
            rows.map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
                .collect::<Result<_, _>>()
                .map_err(redb::Error::from)
        })
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.with(|database| {
            let mut writing = database.begin_write()?;
            // What peers said is in here: nobody shall craft pages that pass for a commit by their checksum.
            writing.set_two_phase_commit(true);
            for change in batch.changes() {
                let mut table = writing.open_table(definition(change.table))?;
                match &change.value {
                    Some(value) => drop(table.insert(&change.key[..], &value[..])?),
                    None => drop(table.remove(&change.key[..])?),
                }
            }
            writing.commit()?;
            Ok(())
        })
    }

    fn take_damage(&mut self) -> Option<Damage> {
        self.damage.take()
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.0)
}

/// Why opening did not work.
enum Failed {
    Store(StoreError),
    InUse,
    Newer(u32),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Store(error.into())
    }
}

fn open(disk: &dyn Disk) -> Result<Database, Failed> {
    let backend = disk.open()?;
    if backend.len()? > MAX_FILE {
        let _ = backend.close();
        return Err(Failed::Store(StoreError::Damaged(format!("it has more than {MAX_FILE} bytes"))));
    }
    let opening = || {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        // Every page is looked at now: later, a page that is not what its checksum says may be a panic.
        builder.set_check_integrity_on_open(true);
        let database = builder.create_with_backend(Capped(backend)).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Failed::InUse,
            error => Failed::Store(store_error(error.into())),
        })?;
        let found = schema(&database).map_err(|error| Failed::Store(store_error(error)))?;
        if found > SCHEMA { Err(Failed::Newer(found)) } else { Ok(database) }
    };
    catch_unwind(AssertUnwindSafe(opening))
        .unwrap_or_else(|panic| Err(Failed::Store(StoreError::Damaged(panic_text(panic.as_ref())))))
}

/// The version of the tables; written if the file is new.
fn schema(database: &Database) -> Result<u32, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(table) => {
            if let Some(found) = table.get_owned(SCHEMA_KEY)? {
                return Ok(found.value());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let writing = database.begin_write()?;
    writing.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
    writing.commit()?;
    Ok(SCHEMA)
}

fn store_error(error: redb::Error) -> StoreError {
    match error {
        // So redb calls a file that is none of its own, or ends early.
        redb::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            StoreError::Damaged(error.to_string())
        }
        redb::Error::Io(error) => StoreError::Io(error),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::Backend(_) => {
            StoreError::Io(io::Error::other(error.to_string()))
        }
        error => StoreError::Damaged(error.to_string()),
    }
}

/// Whether the user named a place that cannot be one, as opposed to a disk that may recover.
fn is_users(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory | ReadOnlyFilesystem)
}

/// A path.
struct Place(PathBuf);

impl Disk for Place {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        // Opening a pipe would wait for its other end.
        if fs::metadata(&self.0).is_ok_and(|about| !about.is_file()) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // Whom this node knows is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.0)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let free = (1..=MAX_DAMAGED).map(|n| damaged(&self.0, n)).find(|path| !path.exists());
        let to = free.unwrap_or_else(|| damaged(&self.0, MAX_DAMAGED));
        fs::rename(&self.0, &to)?;
        Ok(to)
    }
}

fn damaged(path: &Path, n: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{n}"));
    path.with_file_name(name)
}

/// Keeps a file under [`MAX_FILE`].
#[derive(Debug)]
struct Capped(Box<dyn StorageBackend>);

impl StorageBackend for Capped {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the store has {MAX_FILE} bytes at most"),
            ));
        }
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("open", &self.database.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

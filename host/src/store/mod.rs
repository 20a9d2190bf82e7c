//! What is kept on disk: rows of bytes in named tables, behind one small trait.
//!
//! A store is a sync thing that may wait for a disk. It is called from blocking tasks that report back, never inside
//! an actor. It is a convenience and not a promise: where it fails, a node goes on from memory, says so, and writes
//! again when it can.

#[cfg(feature = "store")]
mod file;
mod memory;

#[cfg(test)]
#[cfg(feature = "store")]
pub(crate) mod faults;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "store")]
pub use file::{FileStore, MAX_DAMAGED, MAX_FILE, OpenError, SCHEMA};
pub use memory::Memory;

/// Bytes of a key.
pub const MAX_KEY: usize = 512;
/// Bytes of a value.
pub const MAX_VALUE: usize = 128 * 1024;
/// Rows that one batch changes, and that one [`Store::scan`] returns.
pub const MAX_BATCH: usize = 256;

/// A table's name. Tables are made when something is first put into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// A row's key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Keeps rows of bytes.
///
/// [`write`](Store::write) is all or nothing, also over a crash: whoever opens the store again finds what was there
/// before the batch or what is there after it. When it returns `Ok`, the batch is on the disk: there is no flush to
/// forget. After an error every method may be called again, and works once the cause is gone.
pub trait Store: Send + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The rows after the key `after`, or from the first, in the order of their keys; at most `limit` and at most
    /// [`MAX_BATCH`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(&mut self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Makes all changes of a batch, or none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// What this store has set aside since it was last asked, because it was damaged.
    fn take_damage(&mut self) -> Option<Damage> {
        None
    }

    /// Puts one row.
    ///
    /// # Errors
    /// As [`Store::write`].
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(table, key, value)?;
        self.write(&batch)
    }

    /// Deletes one row; one that is not there is fine.
    ///
    /// # Errors
    /// As [`Store::write`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.delete(table, key)?;
        self.write(&batch)
    }
}

/// Changes that are made together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

/// A row's new value; `None` deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Batch {
    /// Puts a row.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over [`MAX_KEY`], [`MAX_VALUE`] or [`MAX_BATCH`].
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change(table, key, Some(value))
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over [`MAX_KEY`] or [`MAX_BATCH`].
    pub fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.change(table, key, None)
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn change(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        bounded("key", key.len(), MAX_KEY)?;
        bounded("value", value.map_or(0, <[u8]>::len), MAX_VALUE)?;
        bounded("batch", self.changes.len().saturating_add(1), MAX_BATCH)?;
        let value = value.map(<[u8]>::to_vec);
        self.changes.push(Change { table, key: key.to_vec(), value });
        Ok(())
    }
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), StoreError> {
    if len > max { Err(StoreError::TooLarge { what, len, max }) } else { Ok(()) }
}

/// Why a store did not do something. None of it is a peer's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Over a limit of this module; this program's mistake.
    #[error("{what} of {len}, {max} allowed")]
    TooLarge {
        /// What: key, value (bytes) or batch (rows).
        what: &'static str,
        /// How large it is.
        len: usize,
        /// How large it may be.
        max: usize,
    },
    /// The disk is full, broken or gone; it may work later.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file is not what this node wrote. It is set aside before the next use.
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

/// A damaged file that was set aside. An empty one has taken its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where it is now, for whoever wants to look at it.
    pub moved_to: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// A store that several blocking tasks of a node use, one at a time, until it is closed.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Option<Box<dyn Store>>>>);

impl Shared {
    pub(crate) fn new(store: impl Store) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(store)))))
    }

    /// For blocking tasks only: it may take as long as the disk does. `None` once it is closed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Store>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the store, which another node may open then. For blocking tasks only, as well.
    pub(crate) fn close(&self) {
        let store = self.lock().take();
        drop(store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("test");

    #[test]
    fn limits_of_keys_values_and_batches() {
        let mut batch = Batch::default();
        batch.put(TABLE, &[0; MAX_KEY], &vec![0; MAX_VALUE]).unwrap();
        for (key, value) in [(MAX_KEY + 1, 0), (1, MAX_VALUE + 1)] {
            let error = batch.put(TABLE, &vec![0; key], &vec![0; value]).unwrap_err();
            assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        }
        for n in 1..MAX_BATCH {
            batch.delete(TABLE, &n.to_be_bytes()).unwrap();
        }
        assert!(batch.delete(TABLE, b"one more").is_err());
        assert_eq!(batch.len(), MAX_BATCH);
    }

    /// What every store does.
    pub(super) fn conforms(store: &mut dyn Store) {
        assert_eq!(store.get(TABLE, b"a").unwrap(), None);
        assert!(store.scan(TABLE, None, 9).unwrap().is_empty());
        store.put(TABLE, b"a", b"1").unwrap();
        let mut batch = Batch::default();
        batch.put(TABLE, b"b", b"2").unwrap();
        batch.put(TABLE, b"c", b"3").unwrap();
        batch.delete(TABLE, b"a").unwrap();
        batch.put(Table("other"), b"b", b"").unwrap();
        store.write(&batch).unwrap();
        assert_eq!(store.get(TABLE, b"a").unwrap(), None);
        assert_eq!(store.get(TABLE, b"c").unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(store.get(Table("other"), b"b").unwrap().as_deref(), Some(&b""[..]));
        let row = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        assert_eq!(store.scan(TABLE, None, 9).unwrap(), [row(b"b", b"2"), row(b"c", b"3")]);
        assert_eq!(store.scan(TABLE, None, 1).unwrap(), [row(b"b", b"2")]);
        assert_eq!(store.scan(TABLE, Some(b"b"), 9).unwrap(), [row(b"c", b"3")]);
        for n in 0..=MAX_BATCH {
            store.put(TABLE, &n.to_be_bytes(), b"").unwrap();
        }
        assert_eq!(store.scan(TABLE, None, usize::MAX).unwrap().len(), MAX_BATCH);
        store.delete(TABLE, b"b").unwrap();
        assert_eq!(store.get(TABLE, b"b").unwrap(), None);
    }

    #[test]
    fn memory_does_what_every_store_does() {
        conforms(&mut Memory::default());
    }

    #[test]
    fn a_file_does_what_every_store_does() {
        let disk = faults::Disk::default();
        conforms(&mut FileStore::on(disk.clone()).unwrap());
        let mut again = FileStore::on(disk).unwrap();
        assert_eq!(again.get(TABLE, b"c").unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(again.take_damage(), None);
    }
}

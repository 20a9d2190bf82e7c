use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use super::{Batch, MAX_BATCH, Row, Store, StoreError, Table};

/// A store that forgets everything with the program: for tests, and for a program that starts its node anew.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Store for Memory {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&mut self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let Some(rows) = self.tables.get(&table) else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = rows.range::<[u8], _>((from, Bound::Unbounded)).take(limit.min(MAX_BATCH));
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for change in batch.changes() {
            let row = self.tables.entry(change.table).or_default().entry(change.key.clone());
            match (row, &change.value) {
                (row, Some(value)) => drop(row.insert_entry(value.clone())),
                (Entry::Occupied(row), None) => drop(row.remove()),
                (Entry::Vacant(_), None) => {}
            }
        }
        Ok(())
    }
}

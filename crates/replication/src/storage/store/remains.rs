//! A store that is to be freed a part at a time.

use super::Store;
use super::deadlines::Deadlines;
use super::tables::Table;
use alloc::vec::Vec;

/// What is left of a store that nobody reads any more.
pub struct Remains {
    tables: Vec<Table>,
    deadlines: Deadlines,
}

impl Store {
    /// The store's memory, to be freed a part at a time.
    pub fn into_remains(self) -> Remains {
        Remains { tables: self.tables.into_tables(), deadlines: self.deadlines }
    }
}

impl Remains {
    /// Frees about so many records. Whether nothing is left.
    pub fn free(&mut self, records_max: usize) -> bool {
        let mut freed = self.deadlines.free(records_max);
        while freed < records_max
            && let Some(table) = self.tables.last_mut()
        {
            // Also an empty table costs something.
            freed += table.keys.extract_if(|_| true).take(records_max - freed).count() + 1;
            if table.keys.is_empty() {
                self.tables.pop();
            }
        }
        self.is_empty()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.deadlines.first_ms().is_none()
    }
}

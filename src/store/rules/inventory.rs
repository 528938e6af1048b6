//! What Sources own: rows that are written on top of the version that was read.

use super::Draft;
use crate::{
    resource::Kind,
    store::{Error, Owned},
};

impl Draft<'_, '_> {
    pub(super) fn own(&mut self, row: &Owned) -> Result<(), Error> {
        let key = (row.kind, row.name.clone());
        let held = self.tables.inventory.get(&key);
        if held == Some(row) {
            return Ok(());
        }
        if held.map_or(0, |held| held.version) != row.version {
            return Err(stale(row.kind, &row.name));
        }
        let mut row = row.clone();
        row.version += 1;
        self.tables.inventory.set(key, Some(row));
        Ok(())
    }

    pub(super) fn disown(&mut self, kind: Kind, name: &str, version: u64) -> Result<(), Error> {
        let key = (kind, name.to_owned());
        match self.tables.inventory.get(&key) {
            None => Ok(()),
            Some(held) if held.version == version => {
                self.tables.inventory.set(key, None);
                Ok(())
            }
            Some(_) => Err(stale(kind, name)),
        }
    }

    pub(super) fn still_free(&self, kind: Kind, name: &str) -> Result<(), Error> {
        match self.tables.inventory.get(&(kind, name.to_owned())) {
            None => Ok(()),
            Some(held) => Err(Error::Owned {
                kind,
                name: name.to_owned(),
                source_name: held.source.clone(),
                file: format!("{}:{}", held.file, held.line),
            }),
        }
    }
}

fn stale(kind: Kind, name: &str) -> Error {
    Error::Stale { what: format!("what declares {} \"{name}\"", kind.singular()) }
}

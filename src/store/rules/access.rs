//! The ledgers of access: who may, who waits, who asked.

use super::Draft;
use crate::store::{Access, AuditRow, Error, MOST_PAIRINGS, Outcome, Pairing, Principal};

impl Draft<'_, '_> {
    pub(super) fn admit(&mut self, access: &Access) {
        let key = access.principal.to_string();
        if self.tables.access.get(&key) != Some(access) {
            self.tables.access.set(key, Some(access.clone()));
        }
    }

    pub(super) fn expel(&mut self, principal: &Principal) {
        let key = principal.to_string();
        if self.tables.access.get(&key).is_some() {
            self.tables.access.set(key, None);
        }
    }

    pub(super) fn still_admitted(&self, access: &Access) -> Result<(), Error> {
        match self.tables.access.get(&access.principal.to_string()) {
            Some(held) if held == access => Ok(()),
            _ => Err(Error::Stale { what: format!("what {} may do", access.principal) }),
        }
    }

    pub(super) fn still_stranger(&self, principal: &Principal) -> Result<(), Error> {
        match self.tables.access.get(&principal.to_string()) {
            None => Ok(()),
            Some(_) => Err(Error::Stale { what: format!("what {principal} may do") }),
        }
    }

    /// Those that expired make room.
    pub(super) fn open_pairing(&mut self, pairing: &Pairing) -> Result<(), Error> {
        let mut waiting = self.waiting();
        waiting.retain(|other| other.is_open(self.now));
        let same =
            |other: &Pairing| other.principal == pairing.principal || other.code == pairing.code;
        if waiting.iter().any(same) || waiting.len() >= MOST_PAIRINGS {
            return Err(Error::Stale { what: "the list of those who wait to be let in".into() });
        }
        waiting.push(pairing.clone());
        waiting.sort_by(|a, b| (a.created, &a.code).cmp(&(b.created, &b.code)));
        self.tables.pairings.set((), Some(waiting));
        Ok(())
    }

    pub(super) fn close_pairing(&mut self, code: &str) -> Result<(), Error> {
        let mut waiting = self.waiting();
        let open = |other: &Pairing| other.code == code && other.is_open(self.now);
        if !waiting.iter().any(open) {
            return Err(Error::Stale { what: format!("pairing {code}") });
        }
        waiting.retain(|other| other.code != code);
        self.tables.pairings.set((), Some(waiting));
        Ok(())
    }

    fn waiting(&self) -> Vec<Pairing> {
        self.tables.pairings.get(&()).cloned().unwrap_or_default()
    }

    /// Whoever was let in by a token commits only while it is the very same token: a row of its
    /// name may be another's by now, or hold less.
    pub(super) fn by_token(
        &mut self,
        token: &Access,
        note: Option<&AuditRow>,
    ) -> Result<(), Error> {
        let held = self.tables.access.get(&token.principal.to_string());
        let is_live = token.token.as_ref().is_some_and(|it| it.is_live(self.now));
        if held != Some(token) || !is_live {
            return Err(Error::Revoked { who: token.principal.to_string() });
        }
        note.map_or(Ok(()), |note| self.audit(note))
    }

    /// What a token of the API was allowed is done only while that token stands, so that nothing
    /// is done by one that was revoked meanwhile. Every write of the API is noted with it.
    pub(super) fn audit(&mut self, row: &AuditRow) -> Result<(), Error> {
        if row.outcome == Outcome::Allowed
            && row.is_of_token()
            && self.tables.access.get(&row.who).is_none()
        {
            return Err(Error::Revoked { who: row.who.clone() });
        }
        let n = self.tables.audited.get(&()).copied().unwrap_or_default() + 1;
        self.tables.audited.set((), Some(n));
        self.tables.audit.set(n, Some(AuditRow { n, ..row.clone() }));
        Ok(())
    }
}

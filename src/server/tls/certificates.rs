//! The certificate that the server shows: made by the authority, and made anew in time.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::authority::{Authority, CERTIFICATE_HOLDS, Error};
use crate::ambient::Clock;

/// How old a certificate may become: two thirds of its time.
const OLDEST: Duration = Duration::from_secs(CERTIFICATE_HOLDS.as_secs() / 3 * 2);

/// The server's certificate.
pub(super) struct Certificates {
    authority: Authority,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    shown: Mutex<Shown>,
}

/// A certificate and when it was made.
struct Shown {
    key: Arc<CertifiedKey>,
    made: Timestamp,
}

impl Certificates {
    /// The first certificate under these names.
    pub(super) fn new(
        authority: Authority,
        names: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let made = clock.now();
        let key = Arc::new(authority.certify(&names, made)?);
        Ok(Self { authority, names, clock, shown: Mutex::new(Shown { key, made }) })
    }

    /// The certificate to show now: a new one where the last is old, or was made at a time that has
    /// not come (a clock was set back).
    fn current(&self) -> Arc<CertifiedKey> {
        let now = self.clock.now();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.duration_since(shown.made);
        if age.is_negative() || age.unsigned_abs() > OLDEST {
            match self.authority.certify(&self.names, now) {
                Ok(key) => *shown = Shown { key: Arc::new(key), made: now },
                // The old one holds for a month yet.
                Err(error) => tracing::warn!(%error, "the certificate could not be renewed"),
            }
        }
        Arc::clone(&shown.key)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient::ManualClock;

    #[test]
    fn a_certificate_is_made_anew_when_two_thirds_of_its_time_are_over() {
        let place = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let authority = Authority::open(place.path(), clock.now()).unwrap();
        let certificates =
            Certificates::new(authority, vec!["localhost".to_owned()], clock.clone()).unwrap();
        let first = certificates.current();
        clock.advance(OLDEST);
        assert!(Arc::ptr_eq(&first, &certificates.current()), "it holds yet");
        clock.advance(Duration::from_secs(1));
        let second = certificates.current();
        assert_ne!(first.cert, second.cert);
        assert!(Arc::ptr_eq(&second, &certificates.current()), "and is kept");
    }
}

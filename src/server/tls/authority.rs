//! The authority: a key that stays, and what it signs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::token::{print, write_once};

/// The authority's key.
const KEY_FILE: &str = "ca.key";
/// The authority's certificate.
const CERTIFICATE_FILE: &str = "ca.crt";
/// How long the authority holds: longer than any installation. Whoever wants another one removes
/// the directory.
const AUTHORITY_HOLDS: Duration = Duration::from_hours(30 * 365 * 24);
/// How long a certificate of the server holds.
pub(super) const CERTIFICATE_HOLDS: Duration = Duration::from_hours(90 * 24);
/// How far the clocks of clients may be behind ours.
const SLACK: Duration = Duration::from_hours(24);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} can be read by others; run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A key that is none, or not that of the certificate beside it.
    #[error(
        "{} is no key of the certificate beside it ({why}); put the right one back, or remove the \
         directory {}, and a new authority will be made, of which every client must be told \
         (open-dispatch kubeconfig)",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name that no certificate can hold.
    #[error(
        "OPEN_DISPATCH_TLS_NAMES names `{name}`, which is no name for a certificate; write a DNS \
         name or an IP address"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Making(String),
    /// The TLS library cannot work with what it is given.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
}

/// Who signs the certificates of this installation.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// The authority in a directory; it is made where there is none.
    pub(super) fn open(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        let (key_file, certificate_file) =
            (directory.join(KEY_FILE), directory.join(CERTIFICATE_FILE));
        let file = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        match fs::metadata(&key_file) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                return Err(Error::Exposed { path: key_file });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .map_err(file("make", directory))?;
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?;
                write_once(&key_file, key.serialize_pem().trim_end())
                    .map_err(file("write", &key_file))?;
            }
            Err(error) => return Err(file("read", &key_file)(error)),
        }
        let text = fs::read_to_string(&key_file).map_err(file("read", &key_file))?;
        let text = SecretString::from(text);
        let bad = |why: String| Error::BadKey { path: key_file.clone(), why };
        let key =
            KeyPair::from_pem(text.expose_secret()).map_err(|error| bad(error.to_string()))?;
        let params = Self::params(&key, now)?;
        // A crash between the two files leaves a key alone, of which nobody was told anything yet.
        let pem = match fs::read_to_string(&certificate_file) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = params.self_signed(&key).map_err(making)?.pem();
                write_once(&certificate_file, pem.trim_end())
                    .map_err(file("write", &certificate_file))?;
                pem
            }
            Err(error) => return Err(file("read", &certificate_file)(error)),
        };
        if !holds(&pem, &key) {
            return Err(bad("their keys differ".to_owned()));
        }
        // As it is read from the file, also the first time.
        let pem = format!("{}\n", pem.trim_end());
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// What the authority is, which its key alone decides, so that a key signs for the certificate
    /// beside it whenever that was made.
    fn params(key: &KeyPair, now: Timestamp) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::new(Vec::new()).map_err(making)?;
        let whose = print(&key.public_key_pem());
        let name = format!("Open Dispatch {}", whose.get(..12).unwrap_or_default());
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        hold(&mut params, now, AUTHORITY_HOLDS);
        Ok(params)
    }

    /// The authority's certificate as PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a new key for the server under these names.
    pub(super) fn certify(&self, names: &[String], now: Timestamp) -> Result<CertifiedKey, Error> {
        let mut params = CertificateParams::new(names).map_err(|error| {
            let bad = names.iter().find(|name| CertificateParams::new([(*name).clone()]).is_err());
            bad.map_or_else(|| making(error), |name| Error::BadName { name: name.clone() })
        })?;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, "open-dispatch");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        hold(&mut params, now, CERTIFICATE_HOLDS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_ecdsa_type(&der).map_err(|error| Error::Tls(error.to_string()))?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
    }
}

/// Whether a certificate holds this key's public half: its bytes stand in it as they are.
fn holds(pem: &str, key: &KeyPair) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let public = key.public_key_raw();
    CertificateDer::from_pem_slice(pem.as_bytes())
        .is_ok_and(|der| der.windows(public.len()).any(|window| window == public))
}

fn making(error: rcgen::Error) -> Error {
    Error::Making(error.to_string())
}

/// Lets a certificate hold from about a day ago, for clients whose clocks are behind, for so long.
fn hold(params: &mut CertificateParams, now: Timestamp, length: Duration) {
    let day = |at: Timestamp| {
        let date = TimeZone::UTC.to_datetime(at).date();
        // Months and days are no negative numbers.
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(now.checked_sub(SLACK).unwrap_or(now));
    params.not_after = day(now.checked_add(length).unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_authority_stays_and_its_key_is_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("tls");
        let first = Authority::open(&directory, now()).unwrap().pem().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(KEY_FILE))), (0o700, 0o600));
        let later = now() + Duration::from_hours(24 * 365);
        assert_eq!(Authority::open(&directory, later).unwrap().pem(), first);
    }

    #[test]
    fn a_crash_between_key_and_certificate_is_mended_by_the_next_start() {
        let place = tempfile::tempdir().unwrap();
        Authority::open(place.path(), now()).unwrap();
        let key = fs::read(place.path().join(KEY_FILE)).unwrap();
        fs::remove_file(place.path().join(CERTIFICATE_FILE)).unwrap();
        Authority::open(place.path(), now()).unwrap();
        assert_eq!(fs::read(place.path().join(KEY_FILE)).unwrap(), key);
        assert!(place.path().join(CERTIFICATE_FILE).is_file());
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_the_mend() {
        let place = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let refusal = |told: &Path| {
            let error = Authority::open(told, now()).err().map(|error| error.to_string());
            error.unwrap_or_default().replace(&place.path().display().to_string(), "PLACE")
        };
        for path in [place.path(), other.path()] {
            Authority::open(path, now()).unwrap();
        }
        let key = place.path().join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = refusal(place.path());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::copy(other.path().join(KEY_FILE), &key).unwrap();
        let foreign = refusal(place.path());
        fs::write(&key, "hush").unwrap();
        let told = [exposed, foreign, refusal(place.path())].join("\n");
        assert!(!told.contains("hush"));
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_told() {
        let place = tempfile::tempdir().unwrap();
        let authority = Authority::open(place.path(), now()).unwrap();
        let names = ["localhost".to_owned(), "bücher".to_owned()];
        let error = authority.certify(&names, now()).err().unwrap().to_string();
        assert!(error.contains("`bücher`"), "{error}");
        assert!(authority.certify(&["2001:db8::1".to_owned(), "a.b".to_owned()], now()).is_ok());
    }
}

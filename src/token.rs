//! Tokens: what a sprite shows when it speaks, and the secrets that this server keeps in files.
//!
//! A sprite's token is an HMAC-SHA256 over its uid with the installation's key. So it needs no
//! row of its own, survives a restart, and says nothing about any other sprite. Whether it is
//! still alive is the server's question: a token dies with its sprite.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The environment variable that may hold the installation's key.
pub const KEY_VARIABLE: &str = "JOB_TOKEN_SECRET";
/// The fewest bytes that a key from the environment may have.
const SHORTEST_KEY: usize = 16;
/// How many random bytes a secret file holds, written as twice as many hex digits.
const SECRET_BYTES: usize = 32;

/// Makes and checks the tokens of one installation's sprites.
#[derive(Clone)]
pub struct SpriteTokens {
    keyed: Hmac<Sha256>,
}

impl SpriteTokens {
    /// Tokens under this key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        // A longer key than the hash's block is hashed first, so that every length fits.
        let keyed = Hmac::<Sha256>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Self { keyed }
    }

    /// Tokens under the key that the environment gives (the value of [`KEY_VARIABLE`]), else
    /// under the one in the key file, which is made if it is not there.
    ///
    /// # Errors
    /// A key that is too short, or a key file that cannot be read, written or trusted.
    pub fn load(from_environment: Option<&str>, key_file: &Path) -> Result<Self, Error> {
        match from_environment {
            Some(key) if key.len() < SHORTEST_KEY => Err(Error::Short),
            Some(key) => Ok(Self::new(key.as_bytes())),
            None => Ok(Self::new(secret_file(key_file)?.as_bytes())),
        }
    }

    /// The token of the sprite with this uid: 64 hex digits.
    #[must_use]
    pub fn derive(&self, uid: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(uid.as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// What tells this key from another, and says nothing about it: no sprite has this for a uid.
    #[must_use]
    pub fn key_print(&self) -> String {
        self.derive("open-dispatch: which key is this?")
    }

    /// Whether this is that sprite's token; takes as long for a wrong one as for the right one.
    #[must_use]
    pub fn verify(&self, uid: &str, token: &str) -> bool {
        same(&self.derive(uid), token)
    }
}

/// Whether two secrets are the same; how long it takes depends on their lengths alone.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// What a token is looked up by. Looking up the token itself would tell a stranger, by the time
/// it takes, how much of a guess is right; of a hash it tells nothing useful.
pub(crate) fn fingerprint(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What a token is known by, without telling it: the SHA-256 of it, in hex.
#[must_use]
pub fn print(token: &str) -> String {
    hex(&fingerprint(token))
}

/// How the tokens of the API begin that are drawn, so that whoever finds one knows what it is.
pub const NAMED: &str = "odt_";

/// A new token for the API.
///
/// # Errors
/// [`Error::Random`] where the operating system gives no random bytes.
pub fn named() -> Result<SecretString, Error> {
    Ok(SecretString::from(format!("{NAMED}{}", draw()?)))
}

/// The secret in a file that only its owner can read; drawn and written if there is none.
///
/// # Errors
/// A file that cannot be read or written, that others may read, or that is empty.
pub fn secret_file(path: &Path) -> Result<String, Error> {
    let failed =
        |action| move |source| Error::File { action, path: path.display().to_string(), source };
    match fs::metadata(path) {
        Ok(metadata) => {
            if metadata.permissions().mode() & 0o077 != 0 {
                return Err(Error::Exposed { path: path.display().to_string() });
            }
            let secret = fs::read_to_string(path).map_err(failed("read"))?.trim().to_owned();
            if secret.len() < SHORTEST_KEY {
                return Err(Error::Empty { path: path.display().to_string() });
            }
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = draw()?;
            write_once(path, &secret).map_err(failed("write"))?;
            Ok(secret)
        }
        Err(error) => Err(failed("read")(error)),
    }
}

/// Writes a file for its owner alone that is there whole or not at all, whenever the machine dies.
///
/// # Errors
/// Why it cannot be written.
pub fn write_once(path: &Path, secret: &str) -> io::Result<()> {
    let half = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => {
            fs::File::open(directory)?.sync_all()
        }
        _ => Ok(()),
    }
}

/// Random bytes from the operating system, as hex. Keys are no part of the chance that tests
/// replay from a seed.
fn draw() -> Result<String, Error> {
    let mut bytes = [0; SECRET_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::Random)?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why there is no key or token to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key in the environment is too short to be one.
    #[error(
        "{KEY_VARIABLE} is shorter than {SHORTEST_KEY} characters; set a longer one, or unset it"
    )]
    Short,
    /// Others may read the file.
    #[error("{path} can be read by others; run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: String,
    },
    /// The file holds no secret.
    #[error("{path} holds no secret; remove it, and a new one will be made")]
    Empty {
        /// The file.
        path: String,
    },
    /// The file cannot be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes for a new secret")]
    Random,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4231, test case 2, so that another implementation can check our tokens.
    #[test]
    fn a_token_is_the_hmac_sha256_of_the_uid_in_hex() {
        assert_eq!(
            SpriteTokens::new(b"Jefe").derive("what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    proptest! {
        #[test]
        fn a_token_opens_its_own_sprite_and_no_other(key: Vec<u8>, one in ".*", other in ".*") {
            let tokens = SpriteTokens::new(&key);
            prop_assert!(tokens.verify(&one, &tokens.derive(&one)));
            prop_assert_eq!(tokens.verify(&other, &tokens.derive(&one)), one == other);
        }
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone_and_read_ever_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let first = SpriteTokens::load(None, &path).unwrap().derive("sprite");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SpriteTokens::load(None, &path).unwrap().derive("sprite"), first);
        let other = SpriteTokens::load(Some("sixteen letters!"), &path).unwrap();
        assert_ne!(other.derive("sprite"), first);
    }

    #[test]
    fn a_secret_that_cannot_be_trusted_is_refused_with_the_mend() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        secret_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = secret_file(&path).unwrap_err().to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");

        fs::write(&path, "\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(secret_file(&path), Err(Error::Empty { .. })));
        assert!(matches!(SpriteTokens::load(Some("short"), &path), Err(Error::Short)));
    }
}

//! The signature of a JSON Web Token: RS256 and nothing else, checked by ring.
//!
//! `jsonwebtoken` comes without a backend of its own here, since all other TLS and signatures of
//! this program stand on ring. Signing is not part of it: this program signs no such tokens.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    decode, decode_header,
    errors::{ErrorKind, Result as JwtResult},
};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use super::token::{Claims, Refusal};

/// A verifier of RS256 with one key.
struct Rs256 {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl signature::Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    use jsonwebtoken::DecodingKeyKind::RsaModulusExponent;
    match (algorithm, key.kind()) {
        (Algorithm::RS256, RsaModulusExponent { n, e }) => {
            Ok(Box::new(Rs256 { n: n.clone(), e: e.clone() }))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn signer(_: &Algorithm, _: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn install() {
    static ONCE: Once = Once::new();
    // Nobody else in this program installs one.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// The name of the key that a token says it is signed with.
///
/// # Errors
/// It is no token, of another algorithm, or bound to rules that nobody knows here.
pub fn key_of(token: &str) -> Result<String, Refusal> {
    let header = decode_header(token).map_err(|_| Refusal::NotAToken)?;
    if header.alg != Algorithm::RS256 {
        return Err(Refusal::Algorithm);
    }
    if header.crit.is_some() {
        return Err(Refusal::Critical);
    }
    header.kid.ok_or(Refusal::NoKey)
}

/// What a token claims, if the key signed it. Nothing of it is checked beside the signature: see
/// [`super::token::judge`].
///
/// # Errors
/// Another key signed it, or it is no token.
pub fn claims(token: &str, key: &DecodingKey) -> Result<Claims, Refusal> {
    install();
    let mut rules = Validation::new(Algorithm::RS256);
    // The clock is ours, and so are the rules.
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let data = decode::<Claims>(token, key, &rules).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        _ => Refusal::NotAToken,
    })?;
    Ok(data.claims)
}

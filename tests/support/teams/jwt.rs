//! The channel's tokens, and those that others make up. Two RSA keys lie beside this file: the
//! channel's, and a stranger's. They were made for these tests and open nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents},
};
use serde_json::{Value, json};

use super::APP_ID;

/// The name of the channel's key.
pub const KID: &str = "the-channels-key";

/// Which key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    Channel,
    Stranger,
}

impl Signer {
    fn pair(self) -> RsaKeyPair {
        let der: &[u8] = match self {
            Self::Channel => include_bytes!("keys/channel.der"),
            Self::Stranger => include_bytes!("keys/stranger.der"),
        };
        RsaKeyPair::from_der(der).unwrap()
    }

    /// The public key, as a set of keys names it.
    pub fn listed(self, kid: &str, endorsements: &[String]) -> Value {
        let pair = self.pair();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let n = URL_SAFE_NO_PAD.encode(public.n);
        let e = URL_SAFE_NO_PAD.encode(public.e);
        json!({
            "kty": "RSA", "use": "sig", "kid": kid, "x5t": kid, "n": n, "e": e,
            "endorsements": endorsements,
        })
    }
}

/// A token before it is signed.
#[derive(Debug, Clone)]
pub struct Token {
    pub header: Value,
    pub claims: Value,
    pub signer: Signer,
}

#[expect(clippy::disallowed_methods, reason = "a fake of a server lives in real time")]
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

impl Token {
    /// The channel's own.
    pub fn good(service_url: &str) -> Self {
        let now = now();
        Self {
            header: json!({"typ": "JWT", "alg": "RS256", "kid": KID, "x5t": KID}),
            claims: json!({
                "iss": "https://api.botframework.com",
                "aud": APP_ID,
                "exp": now + 3600,
                "nbf": now - 300,
                "serviceurl": service_url,
            }),
            signer: Signer::Channel,
        }
    }

    /// With another claim; null takes it away.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        match value.into() {
            Value::Null => drop(self.claims.as_object_mut().unwrap().remove(name)),
            value => self.claims[name] = value,
        }
        self
    }

    /// With an end so many seconds ago.
    pub fn expired(self, seconds: i64) -> Self {
        self.claim("exp", now() - seconds).claim("nbf", now() - 7200)
    }

    /// As it is sent.
    pub fn sign(&self) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let pair = self.signer.pair();
        let mut signature = vec![0; pair.public().modulus_len()];
        let (padding, chance) = (&RSA_PKCS1_SHA256, SystemRandom::new());
        pair.sign(padding, &chance, signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

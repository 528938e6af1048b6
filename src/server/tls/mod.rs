//! TLS, for clients that keep their token to themselves: kubectl sends none over plain HTTP.
//!
//! The server is its own authority. The authority's key is drawn once and stays in the data
//! directory (`tls/ca.key`, mode 0600), with its certificate beside it (`tls/ca.crt`), which
//! `open-dispatch kubeconfig` hands to clients; so what they were given holds over restarts. The
//! certificate that the server itself shows lives in memory alone: it is made when the first client
//! asks, and anew when two thirds of its time are over.
//!
//! TLS and plain HTTP share the listener. The first byte tells them apart: a TLS handshake begins
//! with 22, and no HTTP method with that. Sprites on this machine go on as before.

mod authority;
mod certificates;

use std::{path::Path, sync::Arc};

use authority::Authority;
pub use authority::Error;
use certificates::Certificates;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::ambient::Clock;

/// With what the first byte of a TLS connection begins: a record that holds a handshake.
pub(super) const HANDSHAKE: u8 = 22;
/// The names by which the server can be reached on its own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What a server shows to clients that speak TLS; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    authority: Arc<str>,
    names: Arc<[String]>,
}

impl Tls {
    /// TLS by the authority in this directory, which is made if it is not there, for this machine's
    /// own names and `further` ones (DNS names and IP addresses).
    ///
    /// # Errors
    /// A directory or a file that cannot be used, or a name that no certificate can hold.
    pub fn open(
        directory: &Path,
        further: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let authority = Authority::open(directory, clock.now())?;
        let mut names: Vec<String> = HERE.iter().map(ToString::to_string).collect();
        names.extend(further.iter().filter(|name| !HERE.contains(&name.as_str())).cloned());
        let pem = authority.pem().into();
        let certificates = Certificates::new(authority, names.clone(), clock)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        // What comes behind the handshake is HTTP/1.1, and clients are told so.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authority: pem,
            names: names.into(),
        })
    }

    /// The certificate that clients are to trust, as PEM.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    /// The names and addresses that the server's certificate stands for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Shakes hands with a client.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }
}

//! A bound on what one call's answer may hold.
//!
//! The client reads an answer whole before it looks at it, so whatever stands in Slack's place could
//! fill our memory. Calls go by HTTP/1 here, one after the other on each connection: what is read
//! there between two requests is one answer, and a connection on which that goes too far breaks off.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::{ServiceExt as _, util::MapResponse};

/// The most bytes of an answer with its head: a page of history with 200 of the longest messages.
const MOST: usize = 16 * 1024 * 1024;

/// A connection as it is made.
type Bare = MaybeHttpsStream<TokioIo<TcpStream>>;
/// What makes connections whose answers have a bound.
pub(super) type Carrier =
    MapResponse<HttpsConnector<HttpConnector>, fn(Bare) -> TokioIo<Bounded<TokioIo<Bare>>>>;

/// Connections whose answers have a bound.
pub(super) fn bounded(connector: HttpsConnector<HttpConnector>) -> Carrier {
    connector.map_response(|bare| TokioIo::new(Bounded::new(TokioIo::new(bare))))
}

/// A connection that breaks off where an answer is too long.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    inner: T,
    /// What was read since something was written last.
    read: usize,
}

impl<T> Bounded<T> {
    fn new(inner: T) -> Self {
        Self { inner, read: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read > MOST {
            return Poll::Ready(Err(io::Error::other("an answer that is too long")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read += buffer.filled().len().saturating_sub(before);
        if self.read > MOST {
            tracing::warn!(
                "an answer in Slack's place went past {} MiB and was cut off; look at \
                 SLACK_API_URL, or at what stands between",
                MOST / (1024 * 1024)
            );
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: Connection> Connection for Bounded<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Asks, and reads an answer of so many bytes.
    async fn asked(bounded: &mut Bounded<tokio::io::DuplexStream>, length: u64) -> io::Result<u64> {
        bounded.write_all(b"?").await?;
        tokio::io::copy(&mut bounded.take(length), &mut tokio::io::sink()).await
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off_and_each_answer_is_counted_for_itself() {
        let (ours, theirs) = tokio::io::duplex(1024 * 1024);
        let (mut asks, mut answers) = tokio::io::split(theirs);
        let heard =
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut tokio::io::sink()).await });
        let talking =
            tokio::spawn(
                async move { while answers.write_all(&[b'['; 64 * 1024]).await.is_ok() {} },
            );
        let mut bounded = Bounded::new(ours);
        let most = u64::try_from(MOST).unwrap();
        for _ in 0..3 {
            assert_eq!(asked(&mut bounded, most / 2).await.unwrap(), most / 2);
        }
        let told = asked(&mut bounded, 2 * most).await.unwrap_err();
        assert_eq!(told.to_string(), "an answer that is too long");
        drop(bounded);
        talking.await.unwrap();
        heard.await.unwrap().unwrap();
    }
}

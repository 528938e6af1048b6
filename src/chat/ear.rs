//! What listens on a platform that does not come to us by itself.
//!
//! The console is asked over HTTP; Slack and Discord are sockets that we hold open, Teams is a
//! listener that we open. Each of them is an [`Ear`]: it takes what people say to
//! [`Commands`](super::Commands), and mends its own connection.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Commands, platform::Platform};

/// A platform's ear.
#[async_trait]
pub trait Ear: Send + Sync {
    /// The same platform's mouth.
    fn platform(self: Arc<Self>) -> Arc<dyn Platform>;

    /// Whether people are heard at the moment.
    fn hearing(&self) -> Hearing;

    /// Hears people until `stop`, through every loss of the connection. A line is acknowledged to
    /// the platform once it is durable, and not before.
    async fn listen(self: Arc<Self>, commands: Arc<Commands>, stop: CancellationToken);
}

/// Whether people are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// They are.
    Yes,
    /// Not yet, or not at the moment; it is being mended. Why, for people.
    NotNow(String),
    /// Not until a person mends something. What, for people.
    Never(String),
}

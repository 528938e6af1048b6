//! What can be asked of the API, and the figures that belong to each.

use std::time::Duration;

use reqwest::Method;

/// One kind of call. Fly counts calls by kind and by the id of what they act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// `GET /apps/{app}/machines`
    List,
    /// `GET /apps/{app}/machines/{id}`
    Get,
    /// `POST /apps/{app}/machines`
    Create,
    /// `POST /apps/{app}/machines/{id}/start`
    Start,
    /// `POST /apps/{app}/machines/{id}/stop`
    Stop,
    /// `DELETE /apps/{app}/machines/{id}?force=true`
    Destroy,
    /// `POST /apps/{app}/machines/{id}/metadata/{key}`
    SetMetadata,
    /// `GET /apps/{app}/machines/{id}/events`
    Events,
    /// `GET /apps/{app}/volumes`
    Volumes,
    /// `POST /apps/{app}/volumes`
    CreateVolume,
    /// `DELETE /apps/{app}/volumes/{id}`
    DestroyVolume,
    /// `GET /apps/{app}`
    App,
}

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next call: shorter than proxies keep theirs.
pub(super) const IDLE: Duration = Duration::from_secs(20);

impl Action {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::List,
        Self::Get,
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Destroy,
        Self::SetMetadata,
        Self::Events,
        Self::Volumes,
        Self::CreateVolume,
        Self::DestroyVolume,
        Self::App,
    ];

    /// The method.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Self::List | Self::Get | Self::Events | Self::Volumes | Self::App => Method::GET,
            Self::Destroy | Self::DestroyVolume => Method::DELETE,
            Self::Create | Self::Start | Self::Stop | Self::SetMetadata | Self::CreateVolume => {
                Method::POST
            }
        }
    }

    /// The path below `/v1`, with names in place of ids: what a log may say.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::List | Self::Create => "/apps/{app}/machines",
            Self::Get | Self::Destroy => "/apps/{app}/machines/{id}",
            Self::Start => "/apps/{app}/machines/{id}/start",
            Self::Stop => "/apps/{app}/machines/{id}/stop",
            Self::SetMetadata => "/apps/{app}/machines/{id}/metadata/{key}",
            Self::Events => "/apps/{app}/machines/{id}/events",
            Self::Volumes | Self::CreateVolume => "/apps/{app}/volumes",
            Self::DestroyVolume => "/apps/{app}/volumes/{id}",
            Self::App => "/apps/{app}",
        }
    }

    /// What it does, as it stands in sentences behind "to".
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::List => "list the machines",
            Self::Get => "show a machine",
            Self::Create => "create a machine",
            Self::Start => "start a machine",
            Self::Stop => "stop a machine",
            Self::Destroy => "destroy a machine",
            Self::SetMetadata => "tag a machine",
            Self::Events => "show a machine's events",
            Self::Volumes => "list the volumes",
            Self::CreateVolume => "create a volume",
            Self::DestroyVolume => "destroy a volume",
            Self::App => "show the app",
        }
    }

    /// Whether it changes something, so that an answer that was lost leaves open what happened.
    #[must_use]
    pub fn is_write(self) -> bool {
        self.method() != Method::GET
    }

    /// How long the whole answer may take. A create may wait for a host with room.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Create => Duration::from_secs(30),
            // Megabytes, where there are thousands of machines.
            Self::List | Self::Volumes => Duration::from_secs(30),
            _ => Duration::from_secs(15),
        }
    }

    /// How many bytes of an answer are read: a machine is told in about 3 KiB, and a list of all of
    /// an app's has no pages.
    #[must_use]
    pub fn most_bytes(self) -> usize {
        match self {
            Self::List | Self::Volumes => 64 << 20,
            _ => 1 << 20,
        }
    }
}

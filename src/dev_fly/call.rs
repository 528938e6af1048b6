//! A request of the Machines API, read: which action on what.

use std::{collections::BTreeMap, fmt};

/// What a caller wants. Rate limits count by action and identifier. [doc]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after what Fly calls it")]
pub enum Action {
    Create,
    List,
    Get,
    Update,
    Destroy,
    Start,
    Stop,
    Restart,
    Suspend,
    Signal,
    Cordon,
    Uncordon,
    Wait,
    LeaseGet,
    LeaseTake,
    LeaseRelease,
    MetadataGet,
    MetadataPut,
    MetadataKeyGet,
    MetadataKeySet,
    MetadataKeyDelete,
    Events,
    Versions,
    Exec,
    VolumeCreate,
    VolumeList,
    VolumeGet,
    VolumeUpdate,
    VolumeExtend,
    VolumeDestroy,
    AppCreate,
    AppList,
    AppGet,
    AppDestroy,
    SecretList,
    SecretsSet,
    SecretGet,
    SecretSet,
    SecretDelete,
    OrgMachines,
    OrgVolumes,
    Regions,
    /// A path that Fly has and this fake has not, or that nobody has.
    Unknown,
}

impl Action {
    /// The writes whose answers are worth losing.
    pub const ALL_WRITES: [Self; 11] = [
        Self::Create,
        Self::Update,
        Self::Destroy,
        Self::Start,
        Self::Stop,
        Self::Suspend,
        Self::MetadataKeySet,
        Self::MetadataPut,
        Self::VolumeCreate,
        Self::VolumeDestroy,
        Self::AppCreate,
    ];

    /// Whether it changes something: its answer can be lost.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Self::List
                | Self::Get
                | Self::Wait
                | Self::LeaseGet
                | Self::MetadataGet
                | Self::MetadataKeyGet
                | Self::Events
                | Self::Versions
                | Self::VolumeList
                | Self::VolumeGet
                | Self::AppList
                | Self::AppGet
                | Self::SecretList
                | Self::SecretGet
                | Self::OrgMachines
                | Self::OrgVolumes
                | Self::Regions
                | Self::Unknown
        )
    }

    /// Whether a lease of the machine guards it. Metadata is not guarded. [doc]
    #[must_use]
    pub const fn is_leased(self) -> bool {
        matches!(
            self,
            Self::Update
                | Self::Destroy
                | Self::Start
                | Self::Stop
                | Self::Restart
                | Self::Suspend
                | Self::Signal
                | Self::Cordon
                | Self::Uncordon
                | Self::Exec
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// What `Authorization` said.
    pub authorization: Option<String>,
    /// What `fly-machine-lease-nonce` said.
    pub nonce: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A query parameter.
    #[must_use]
    pub fn ask(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a query parameter says yes.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.ask(name).is_some_and(|value| matches!(value, "" | "1" | "true"))
    }

    /// Every value of a parameter, with commas opened: `a,b` and `a` twice mean the same. [doc]
    #[must_use]
    pub fn asks(&self, name: &str) -> Vec<String> {
        let values = self.query.iter().filter(|(key, _)| key == name);
        values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The filters `metadata.KEY=VALUE`. [doc]
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.query
            .iter()
            .filter_map(|(key, value)| {
                key.strip_prefix("metadata.").map(|key| (key.to_owned(), value.clone()))
            })
            .collect()
    }
}

/// Which action on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What shall be done.
    pub action: Action,
    /// The app or organization, where the path names one.
    pub app: String,
    /// The machine, volume, secret or address.
    pub id: String,
    /// The key of the metadata.
    pub key: String,
}

impl Call {
    /// Reads method and path.
    #[must_use]
    pub fn read(method: &str, path: &str) -> Self {
        use Action as A;
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let call = |action, app: &str, id: &str, key: &str| Self {
            action,
            app: app.to_owned(),
            id: id.to_owned(),
            key: key.to_owned(),
        };
        let Some((&"v1", parts)) = parts.split_first() else {
            return call(A::Unknown, "", "", "");
        };
        match (method, parts) {
            ("POST", ["apps"]) => call(A::AppCreate, "", "", ""),
            ("GET", ["apps"]) => call(A::AppList, "", "", ""),
            ("GET", ["apps", app]) => call(A::AppGet, app, "", ""),
            ("DELETE", ["apps", app]) => call(A::AppDestroy, app, "", ""),
            ("GET", ["orgs", org, "machines"]) => call(A::OrgMachines, org, "", ""),
            ("GET", ["orgs", org, "volumes"]) => call(A::OrgVolumes, org, "", ""),
            ("GET", ["platform", "regions"]) => call(A::Regions, "", "", ""),
            (_, ["apps", app, "secrets"]) => match method {
                "GET" => call(A::SecretList, app, "", ""),
                "POST" => call(A::SecretsSet, app, "", ""),
                _ => call(A::Unknown, app, "", ""),
            },
            (_, ["apps", app, "secrets", name]) => match method {
                "GET" => call(A::SecretGet, app, name, ""),
                "POST" => call(A::SecretSet, app, name, ""),
                "DELETE" => call(A::SecretDelete, app, name, ""),
                _ => call(A::Unknown, app, "", ""),
            },
            (_, ["apps", app, "volumes", rest @ ..]) => {
                let action = match (method, rest) {
                    ("POST", []) => A::VolumeCreate,
                    ("GET", []) => A::VolumeList,
                    ("GET", [_]) => A::VolumeGet,
                    ("PUT", [_]) => A::VolumeUpdate,
                    ("PUT", [_, "extend"]) => A::VolumeExtend,
                    ("DELETE", [_]) => A::VolumeDestroy,
                    _ => A::Unknown,
                };
                call(action, app, rest.first().copied().unwrap_or_default(), "")
            }
            (_, ["apps", app, "machines", rest @ ..]) => {
                let action = match (method, rest) {
                    ("POST", []) => A::Create,
                    ("GET", []) => A::List,
                    ("GET", [_]) => A::Get,
                    ("POST", [_]) => A::Update,
                    ("DELETE", [_]) => A::Destroy,
                    ("POST", [_, "start"]) => A::Start,
                    ("POST", [_, "stop"]) => A::Stop,
                    ("POST", [_, "restart"]) => A::Restart,
                    ("POST", [_, "suspend"]) => A::Suspend,
                    ("POST", [_, "signal"]) => A::Signal,
                    ("POST", [_, "cordon"]) => A::Cordon,
                    ("POST", [_, "uncordon"]) => A::Uncordon,
                    ("GET", [_, "wait"]) => A::Wait,
                    ("GET", [_, "lease"]) => A::LeaseGet,
                    ("POST", [_, "lease"]) => A::LeaseTake,
                    ("DELETE", [_, "lease"]) => A::LeaseRelease,
                    ("GET", [_, "metadata"]) => A::MetadataGet,
                    ("PUT" | "PATCH", [_, "metadata"]) => A::MetadataPut,
                    ("GET", [_, "metadata", _]) => A::MetadataKeyGet,
                    ("POST", [_, "metadata", _]) => A::MetadataKeySet,
                    ("DELETE", [_, "metadata", _]) => A::MetadataKeyDelete,
                    ("GET", [_, "events"]) => A::Events,
                    ("GET", [_, "versions"]) => A::Versions,
                    ("POST", [_, "exec"]) => A::Exec,
                    _ => A::Unknown,
                };
                let at = |n: usize| rest.get(n).copied().unwrap_or_default();
                call(action, app, at(0), at(2))
            }
            _ => call(A::Unknown, "", "", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_path_say_which_action_on_what() {
        let read = |method: &str, path: &str| {
            let it = Call::read(method, path);
            format!("{} {} {} {}", it.action, it.app, it.id, it.key).trim_end().to_owned()
        };
        assert_eq!(read("POST", "/v1/apps/a/machines"), "Create a");
        assert_eq!(read("GET", "/v1/apps/a/machines"), "List a");
        assert_eq!(read("POST", "/v1/apps/a/machines/m"), "Update a m");
        assert_eq!(read("DELETE", "/v1/apps/a/machines/m/metadata/k"), "MetadataKeyDelete a m k");
        assert_eq!(read("PUT", "/v1/apps/a/volumes/v/extend"), "VolumeExtend a v");
        assert_eq!(read("GET", "/v1/orgs/o/machines"), "OrgMachines o");
        assert_eq!(read("PATCH", "/v1/apps/a/machines/m"), "Unknown a m");
        assert_eq!(read("GET", "/apps/a/machines"), "Unknown");
        assert!(Action::ALL_WRITES.into_iter().all(Action::writes));
    }

    #[test]
    fn queries_are_read_repeated_and_with_commas() {
        let query = [("state", "started,stopped"), ("state", "failed"), ("metadata.od_x", "1")];
        let request = Request {
            query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            ..Request::default()
        };
        assert_eq!(request.asks("state"), ["started", "stopped", "failed"]);
        assert_eq!(request.metadata(), BTreeMap::from([("od_x".to_owned(), "1".to_owned())]));
    }
}

//! The words of a policy, as they count: with what follows from what is left out.

use crate::{
    resource::{Kind, SourcePolicy},
    source::star,
};

/// The kinds that a Source may write where its policy names none.
pub const USUAL_KINDS: [Kind; 4] = [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule];

/// A list of a policy, `kinds` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Runtimes,
    Isolations,
    Workdirs,
    Images,
    Repos,
    Programs,
    PermissionModes,
    PermissionRules,
    Env,
    Secrets,
    Channels,
    GitDirectories,
    Sources,
}

impl Word {
    pub(super) const ALL: [Self; 13] = [
        Self::Runtimes,
        Self::Isolations,
        Self::Workdirs,
        Self::Images,
        Self::Repos,
        Self::Programs,
        Self::PermissionModes,
        Self::PermissionRules,
        Self::Env,
        Self::Secrets,
        Self::Channels,
        Self::GitDirectories,
        Self::Sources,
    ];

    /// The list's name in a policy.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Runtimes => "runtimes",
            Self::Isolations => "isolations",
            Self::Workdirs => "workdirs",
            Self::Images => "images",
            Self::Repos => "repos",
            Self::Programs => "programs",
            Self::PermissionModes => "permissionModes",
            Self::PermissionRules => "permissionRules",
            Self::Env => "env",
            Self::Secrets => "secrets",
            Self::Channels => "channels",
            Self::GitDirectories => "gitDirectories",
            Self::Sources => "sources",
        }
    }

    /// One thing that it allows, for people.
    pub(super) const fn thing(self) -> &'static str {
        match self {
            Self::Runtimes => "runtime",
            Self::Isolations => "isolation",
            Self::Workdirs => "work directory",
            Self::Images => "image",
            Self::Repos => "repository",
            Self::Programs => "program",
            Self::PermissionModes => "permission mode",
            Self::PermissionRules => "permission rule",
            Self::Env => "variable",
            Self::Secrets => "secret",
            Self::Channels => "channel",
            Self::GitDirectories => "source of directories",
            Self::Sources => "place",
        }
    }
}

/// What a policy allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a>(Option<&'a SourcePolicy>);

impl<'a> Words<'a> {
    pub(super) const fn of(policy: Option<&'a SourcePolicy>) -> Self {
        Self(policy)
    }

    pub(super) fn kinds(self) -> &'a [Kind] {
        self.0.and_then(|policy| policy.kinds.as_deref()).unwrap_or(&USUAL_KINDS)
    }

    /// What a list allows; nothing where it does not restrict.
    pub(super) fn list(self, word: Word) -> Option<&'a [String]> {
        let policy = self.0?;
        let said = match word {
            Word::Runtimes => &policy.runtimes,
            Word::Isolations => &policy.isolations,
            Word::Workdirs => &policy.workdirs,
            Word::Images => &policy.images,
            Word::Repos => &policy.repos,
            Word::Programs => &policy.programs,
            Word::PermissionModes => &policy.permission_modes,
            Word::PermissionRules => &policy.permission_rules,
            Word::Env => &policy.env,
            Word::Secrets => &policy.secrets,
            Word::Channels => &policy.channels,
            Word::GitDirectories => &policy.git_directories,
            Word::Sources => &policy.sources,
        };
        said.as_deref().or_else(|| self.follows(word).then_some(&[]))
    }

    /// Whether a list that is left out allows nothing, because of what else the policy says.
    pub(super) fn follows(self, word: Word) -> bool {
        match word {
            Word::Programs | Word::PermissionRules | Word::Env => self.asks(),
            Word::GitDirectories | Word::Sources => self.0.is_some(),
            _ => false,
        }
    }

    /// Whether agents have to ask: whoever restricts the modes and leaves `bypass` out means that
    /// nothing is done unasked, by whatever field.
    fn asks(self) -> bool {
        let modes = self.0.and_then(|policy| policy.permission_modes.as_deref());
        modes.is_some_and(|modes| !allows(modes, "bypass"))
    }
}

/// Whether one of these patterns fits a text.
pub(super) fn allows(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| star::matches(pattern, text))
}

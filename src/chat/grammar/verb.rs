//! The commands by name.

/// The commands of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `/od-start`
    Start,
    /// `/od-send`
    Send,
    /// `/od-stop`
    Stop,
    /// `/od-list`
    List,
    /// `/od-run`
    Run,
    /// `/od-jobs`
    Jobs,
    /// `/od-schedule`
    Schedule,
    /// `/od-status`
    Status,
    /// `/od-logs`
    Logs,
    /// `/od-cancel`
    Cancel,
    /// `/od-retry`
    Retry,
    /// `/od-approve`
    Approve,
    /// `/od-set`
    Set,
    /// `/od-scale`
    Scale,
    /// `/od-delete`
    Delete,
    /// `/od-apply`
    Apply,
    /// `/od-diff`
    Diff,
    /// `/od-export`
    Export,
    /// `/od-help`
    Help,
    /// `/od-whoami`
    Whoami,
}

impl Verb {
    /// All of them, in the order in which help shows them.
    pub const ALL: [Self; 20] = [
        Self::Start,
        Self::Send,
        Self::Stop,
        Self::List,
        Self::Run,
        Self::Jobs,
        Self::Schedule,
        Self::Status,
        Self::Logs,
        Self::Cancel,
        Self::Retry,
        Self::Approve,
        Self::Set,
        Self::Scale,
        Self::Delete,
        Self::Apply,
        Self::Diff,
        Self::Export,
        Self::Help,
        Self::Whoami,
    ];

    /// The command's name behind the slash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "od-start",
            Self::Send => "od-send",
            Self::Stop => "od-stop",
            Self::List => "od-list",
            Self::Run => "od-run",
            Self::Jobs => "od-jobs",
            Self::Schedule => "od-schedule",
            Self::Status => "od-status",
            Self::Logs => "od-logs",
            Self::Cancel => "od-cancel",
            Self::Retry => "od-retry",
            Self::Approve => "od-approve",
            Self::Set => "od-set",
            Self::Scale => "od-scale",
            Self::Delete => "od-delete",
            Self::Apply => "od-apply",
            Self::Diff => "od-diff",
            Self::Export => "od-export",
            Self::Help => "od-help",
            Self::Whoami => "od-whoami",
        }
    }

    /// Finds a command by its name, with or without slash and `od-`, whatever the case.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        let word = word.trim_start_matches('/').to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|verb| verb.name() == word || verb.name().strip_prefix("od-") == Some(&word))
    }
}

/// The built command that is nearest to a word.
pub(super) fn nearest_command(word: &str) -> Option<&'static str> {
    let full = if word.starts_with("od-") { word.to_owned() } else { format!("od-{word}") };
    nearest(&full, Verb::ALL.map(Verb::name))
}

/// The candidate that is nearest to a word, if one is near.
pub(crate) fn nearest<T: AsRef<str>>(
    word: &str,
    candidates: impl IntoIterator<Item = T>,
) -> Option<T> {
    let most = word.chars().count().div_ceil(3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

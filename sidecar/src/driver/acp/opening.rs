//! From a process that was started to a session that can be prompted: a machine of its own,
//! since each step is the answer to one before it.
//!
//! Initialize; then resume the session that the sprite had (or load it, where the agent can only
//! do that), or begin a new one; then its mode, then its model. A session that is loaded replays
//! its history, some of it after the answer, so it is waited for until the agent is silent.

use std::{collections::VecDeque, path::PathBuf};

use agent_client_protocol_schema::{
    ProtocolVersion,
    v1::{
        AGENT_METHOD_NAMES, AuthMethod, ClientCapabilities, ClientSessionCapabilities,
        ElicitationCapabilities, ElicitationFormCapabilities, Error, ErrorCode, Implementation,
        InitializeRequest, InitializeResponse, LoadSessionRequest, NewSessionRequest,
        NoticeCapabilities, ResumeSessionRequest, SessionConfigKind, SessionConfigOption,
        SessionConfigOptionCategory, SessionConfigSelectOptions, SetSessionModeRequest,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    failure::{Agent, said},
    modes::{self, Choice},
};
use crate::wire::PermissionMode;

/// Chooses a model; from a draft of the protocol, and used by agents that do not have
/// configuration options yet.
const SET_MODEL: &str = "session/set_model";

/// What is wanted of the session.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where the agent works.
    pub workdir: String,
    /// The session to resume.
    pub session: Option<String>,
    /// How requests are answered.
    pub mode: PermissionMode,
    /// The model, where it is not the agent's own choice.
    pub model: Option<String>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Send this request.
    Send(&'static str, Value),
    /// Tell people this.
    Say(String),
    /// Wait until the agent is silent.
    Settle,
    /// The session can be prompted.
    Ready,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Opening {
    wanted: Wanted,
    /// Who speaks.
    pub agent: Agent,
    /// The session, once there is one.
    pub session: Option<String>,
    /// Whether nobody spoke in the session before.
    pub is_new: bool,
    stage: Stage,
    settings: VecDeque<Setting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Resuming,
    Loading,
    Beginning,
    Setting { is_loaded: bool },
    Open,
}

/// Something to set before the first prompt.
#[derive(Debug)]
struct Setting {
    method: &'static str,
    params: Value,
    /// What an error means: a reason not to begin, or something to tell.
    fatal: bool,
    /// What it is, for people.
    what: String,
}

impl Opening {
    /// Begins with an agent that is called so until it says its own name.
    pub(super) fn new(name: String, wanted: Wanted) -> Self {
        Self {
            wanted,
            agent: Agent { name, logins: Vec::new() },
            session: None,
            is_new: true,
            stage: Stage::Greeting,
            settings: VecDeque::new(),
        }
    }

    /// The first request.
    pub(super) fn begin(&self) -> Step {
        let session = ClientSessionCapabilities::default().notices(NoticeCapabilities::default());
        let forms = ElicitationCapabilities::default().form(ElicitationFormCapabilities::default());
        let capabilities = ClientCapabilities::default().session(session).elicitation(forms);
        let request = InitializeRequest::new(ProtocolVersion::V1)
            .client_capabilities(capabilities)
            .client_info(Implementation::new("open-dispatch", env!("CARGO_PKG_VERSION")));
        send(AGENT_METHOD_NAMES.initialize, &request)
    }

    /// The agent has answered the last request.
    ///
    /// # Errors
    /// Why there will be no session, for people.
    pub(super) fn on_answer(&mut self, answer: Result<Value, Error>) -> Result<Vec<Step>, String> {
        match (self.stage, answer) {
            (Stage::Greeting, Ok(answer)) => self.greeted(&answer),
            (Stage::Greeting, Err(error)) => Err(self.agent.of_greeting(&error)),
            (Stage::Resuming, Ok(answer)) => Ok(self.opened(&answer, false)?),
            (Stage::Loading, Ok(answer)) => Ok(self.opened(&answer, true)?),
            (Stage::Resuming | Stage::Loading, Err(error)) => {
                if error.code == ErrorCode::AuthRequired {
                    return Err(self.agent.of_session(&error));
                }
                Ok(self.begin_anew(&said(&error)))
            }
            (Stage::Beginning, Ok(answer)) => {
                let Some(id) = answer["sessionId"].as_str().filter(|id| !id.is_empty()) else {
                    return Err(format!("{} gives a session without an id", self.agent.name));
                };
                self.session = Some(id.to_owned());
                self.opened(&answer, false)
            }
            (Stage::Beginning, Err(error)) => Err(self.agent.of_session(&error)),
            (Stage::Setting { is_loaded }, answer) => {
                let mut steps = Vec::new();
                if let (Some(setting), Err(error)) = (self.settings.pop_front(), answer) {
                    let why = format!("{}: {}", setting.what, said(&error));
                    if setting.fatal {
                        return Err(why);
                    }
                    steps.push(Step::Say(why));
                }
                steps.push(self.next(is_loaded));
                Ok(steps)
            }
            (Stage::Open, _) => Ok(Vec::new()),
        }
    }

    fn greeted(&mut self, answer: &Value) -> Result<Vec<Step>, String> {
        let version = &answer["protocolVersion"];
        if version != 1 {
            return Err(self.agent.of_version(&version.to_string()));
        }
        let Ok(it) = serde_json::from_value::<InitializeResponse>(answer.clone()) else {
            return Err(self.agent.of_greeting(&Error::invalid_params()));
        };
        if let Some(info) = it.agent_info {
            self.agent.name = info.title.unwrap_or(info.name);
        }
        self.agent.logins = it
            .auth_methods
            .into_iter()
            .filter_map(|method| match method {
                AuthMethod::Agent(it) => Some(it.name),
                AuthMethod::Terminal(it) => Some(it.name),
                _ => None,
            })
            .collect();
        let Some(id) = self.wanted.session.clone() else { return Ok(vec![self.begin_new()]) };
        let can = it.agent_capabilities;
        let (id, cwd) = (id.clone(), PathBuf::from(&self.wanted.workdir));
        let names = &AGENT_METHOD_NAMES;
        if can.session_capabilities.resume.is_some() {
            self.stage = Stage::Resuming;
            let request = ResumeSessionRequest::new(id, cwd);
            return Ok(vec![send(names.session_resume, &request)]);
        }
        if can.load_session {
            self.stage = Stage::Loading;
            return Ok(vec![send(names.session_load, &LoadSessionRequest::new(id, cwd))]);
        }
        Ok(self.begin_anew("the agent cannot resume sessions"))
    }

    fn begin_new(&mut self) -> Step {
        self.stage = Stage::Beginning;
        send(AGENT_METHOD_NAMES.session_new, &NewSessionRequest::new(&self.wanted.workdir))
    }

    fn begin_anew(&mut self, why: &str) -> Vec<Step> {
        let id = self.wanted.session.take().unwrap_or_default();
        vec![
            Step::Say(format!("the session {id} is gone; a new one begins")),
            Step::Say(format!("why it could not be resumed: {why}")),
            self.begin_new(),
        ]
    }

    fn opened(&mut self, answer: &Value, is_loaded: bool) -> Result<Vec<Step>, String> {
        if let Some(id) = self.wanted.session.take() {
            self.session = Some(id);
            self.is_new = false;
        }
        let session = self.session.clone().unwrap_or_default();
        let offer = Offer::read(answer);
        let mut steps = Vec::new();
        match modes::choose(self.wanted.mode, &offer.mode, offer.modes.iter().map(String::as_str)) {
            Choice::Keep => {}
            Choice::Set(mode) => self.settings.push_back(self.mode(&session, &offer, &mode)),
            Choice::Unknown => steps.push(Step::Say(format!(
                "{} offers no mode that is known here ({}); it stays in `{}`, and what that \
                 leaves unasked is not asked",
                self.agent.name,
                offer.modes.join(", "),
                offer.mode,
            ))),
        }
        if let Some(model) = self.wanted.model.clone().filter(|model| *model != offer.model) {
            let setting = self.model(&session, &offer, &model)?;
            self.settings.push_back(setting);
        }
        steps.push(self.next(is_loaded));
        Ok(steps)
    }

    fn mode(&self, session: &str, offer: &Offer, mode: &str) -> Setting {
        let (method, params) = match &offer.mode_option {
            Some(option) => config(session, option, mode),
            None => {
                let request = SetSessionModeRequest::new(session.to_owned(), mode.to_owned());
                (AGENT_METHOD_NAMES.session_set_mode, value(&request))
            }
        };
        let name = &self.agent.name;
        let what = format!("{name} cannot be put into its mode `{mode}`");
        // Where all is allowed anyway, no mode is worth a run.
        Setting { method, params, fatal: self.wanted.mode != PermissionMode::Bypass, what }
    }

    fn model(&self, session: &str, offer: &Offer, model: &str) -> Result<Setting, String> {
        let name = &self.agent.name;
        let (method, params) = match (&offer.model_option, offer.takes_models) {
            (Some(option), _) => config(session, option, model),
            (None, true) => (SET_MODEL, json!({"sessionId": session, "modelId": model})),
            (None, false) => {
                return Err(format!(
                    "{name} does not let its model be chosen by us; take `model` out of the \
                     spec, and choose it in the agent's own command or configuration"
                ));
            }
        };
        let what =
            format!("{name} does not take the model `{model}` (it offers: {})", offer.models());
        Ok(Setting { method, params, fatal: true, what })
    }

    fn next(&mut self, is_loaded: bool) -> Step {
        if let Some(setting) = self.settings.front() {
            self.stage = Stage::Setting { is_loaded };
            return Step::Send(setting.method, setting.params.clone());
        }
        self.stage = Stage::Open;
        if is_loaded { Step::Settle } else { Step::Ready }
    }
}

fn send(method: &'static str, params: &impl Serialize) -> Step {
    Step::Send(method, value(params))
}

/// The types of the protocol are plain data, which can always be told as JSON.
fn value(it: &impl Serialize) -> Value {
    serde_json::to_value(it).unwrap_or_default()
}

fn config(session: &str, option: &str, value: &str) -> (&'static str, Value) {
    let params = json!({"sessionId": session, "configId": option, "value": value});
    (AGENT_METHOD_NAMES.session_set_config_option, params)
}

/// What a session lets us choose.
#[derive(Debug, Default)]
struct Offer {
    mode: String,
    modes: Vec<String>,
    /// The configuration option that is the mode, where there are no modes.
    mode_option: Option<String>,
    model: String,
    models: Vec<String>,
    model_option: Option<String>,
    /// Whether models are chosen by the method of the draft.
    takes_models: bool,
}

impl Offer {
    /// How many models are named in an error.
    const NAMED: usize = 12;

    fn read(answer: &Value) -> Self {
        let mut offer = Self::default();
        let texts = |list: &Value, member: &str| -> Vec<String> {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|it| Some(it[member].as_str()?.to_owned())).collect()
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let models = &answer["models"];
        if models.is_object() {
            offer.takes_models = true;
            offer.model = text(&models["currentModelId"]);
            offer.models = texts(&models["availableModels"], "modelId");
        }
        offer.mode = text(&answer["modes"]["currentModeId"]);
        offer.modes = texts(&answer["modes"]["availableModes"], "id");
        for option in answer["configOptions"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if let Ok(option) = serde_json::from_value(option.clone()) {
                offer.add(option);
            }
        }
        offer
    }

    fn add(&mut self, option: SessionConfigOption) {
        let SessionConfigKind::Select(select) = option.kind else { return };
        let values: Vec<String> = match select.options {
            SessionConfigSelectOptions::Ungrouped(options) => {
                options.iter().map(|option| option.value.0.to_string()).collect()
            }
            SessionConfigSelectOptions::Grouped(groups) => {
                let options = groups.iter().flat_map(|group| &group.options);
                options.map(|option| option.value.0.to_string()).collect()
            }
            _ => return,
        };
        let (id, current) = (option.id.0.to_string(), select.current_value.0.to_string());
        match option.category {
            Some(SessionConfigOptionCategory::Mode) if self.modes.is_empty() => {
                (self.mode, self.modes, self.mode_option) = (current, values, Some(id));
            }
            Some(SessionConfigOptionCategory::Model) if self.model_option.is_none() => {
                (self.model, self.models, self.model_option) = (current, values, Some(id));
            }
            _ => {}
        }
    }

    /// The models, for people.
    fn models(&self) -> String {
        let named = self.models.iter().take(Self::NAMED).map(String::as_str);
        let more = self.models.len().saturating_sub(Self::NAMED);
        let mut text = named.collect::<Vec<_>>().join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text
    }
}

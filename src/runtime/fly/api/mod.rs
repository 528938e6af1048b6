//! The Machines API of Fly: what can be asked of it, typed.
//!
//! A call passes four rooms of one idea each:
//!
//! ```text
//!   Machines::create ─► breaker ─► gate ────────────────► door ───────► Fly
//!     wish.rs           does any    buckets and places:    one request,    │
//!     what we ask for   call get    who may go, and when   bounded in      │
//!                       through?    (pace.rs, gate.rs)     time and bytes  │
//!                          ▲             ▲                                 │
//!                          └─ how it     └─ 429: the bucket is empty       │
//!                             ended                                        │
//!   machine.rs, event.rs, volume.rs ◄── lenient ── or errors::classify ◄───┘
//! ```
//!
//! **It makes one attempt.** A write is not idempotent here: the API has no key for that, and an
//! answer of 408 may come after the deed. So nothing is tried again in this room; what is left open
//! is told as [`ApiError::Ambiguous`], and whoever asked looks before it asks again. A machine's
//! name, unique within the app, is the handle for that ([`ApiError::NameTaken`]).
//!
//! **What absence means.** [`Machines::get`] says `None` only where Fly itself said 404; a machine
//! that was destroyed is still told for a while, as `destroyed`. [`Machines::list`] is whole or an
//! error, and yet lags behind writes, and a machine on a host that does not answer may be missing
//! from it when tags are asked for: what is not in a list is not proven to be gone.
//!
//! The facts are those of Fly's documentation and published schema (2026-05), and of the source of
//! its Go client; where they disagree, the code says which is followed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use url::Url;

mod action;
mod address;
mod breaker;
mod carrier;
mod door;
mod errors;
mod event;
mod gate;
mod lenient;
mod machine;
mod pace;
mod reading;
mod token;
mod volume;
mod wish;

pub use action::Action;
pub use breaker::Condition;
pub use carrier::{Carrier, Unanswered};
pub use errors::{Answer, AnswerHeaders, ApiError, CapacityScope, classify};
pub use event::{ExitEvent, MachineEvent};
pub use machine::{
    Guest, HostStatus, ImageRef, Machine, MachineConfig, SeenMount, State as MachineState,
};
pub use volume::{App, Organization, Volume};
pub use wish::{
    CreateMachine, CreateVolume, Env, Init, Mount, Restart, RestartPolicy, Signal, StopMachine,
    WishedConfig,
};

use self::{
    breaker::{Admission, Breaker},
    door::{Door, Request},
    gate::Gate,
    reading::{Members, Reading, Whole},
};
use crate::ambient::Ambient;

/// Who would wait longer than this for the right to make a call is told so instead.
const LONGEST_QUEUE: Duration = Duration::from_secs(300);

/// A client of the Machines API for one app. Cheap to clone; all clones share limits and breaker.
#[derive(Clone)]
pub struct Machines {
    inner: Arc<Inner>,
}

struct Inner {
    door: Door,
    app: String,
    ambient: Ambient,
    breaker: Mutex<Breaker>,
    gate: Gate,
}

impl Machines {
    /// A client for the machines of an app. `api` is the API's address with or without `/v1`.
    ///
    /// # Errors
    /// [`ApiError::Setup`]: an address to which no token may be sent, a token that is none, a name
    /// that no app can have, or no TLS on this computer.
    pub fn new(
        api: &Url,
        token: &SecretString,
        app: &str,
        ambient: Ambient,
    ) -> Result<Self, ApiError> {
        let network = carrier::Network::new(api.scheme() == "https")?;
        Self::over(Arc::new(network), api, token, app, ambient)
    }

    /// As [`Machines::new`], with requests that go another way than over the network.
    ///
    /// # Errors
    /// The same.
    pub fn over(
        carrier: Arc<dyn Carrier>,
        api: &Url,
        token: &SecretString,
        app: &str,
        ambient: Ambient,
    ) -> Result<Self, ApiError> {
        if !is_plain(app) || app.len() > 63 {
            return Err(ApiError::Setup(format!(
                "{app:?} is the name of no Fly app; FLY_SPRITE_APP has lower-case letters, digits and dashes, 63 at most"
            )));
        }
        let door = Door::new(carrier, address::base(api)?, token::authorization(token)?);
        let gate = Gate::new(ambient.clock.clone());
        let inner = Inner { door, app: app.to_owned(), ambient, breaker: Mutex::default(), gate };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The app.
    #[must_use]
    pub fn app_name(&self) -> &str {
        &self.inner.app
    }

    /// What is wrong with the API as a whole, if anything is: calls rest meanwhile.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        self.breaker().condition()
    }

    /// How long a call on this app or machine would wait before it leaves, as things stand. Creates
    /// and lists act on the app, and an app takes about one create in a second.
    #[must_use]
    pub fn backlog(&self, action: Action, id: &str) -> Duration {
        self.inner.gate.backlog(&(action, id.to_owned()))
    }

    /// The machines that have all of these tags. Whole, or an error; see the head of this room for
    /// what absence means. What is known to have other tags is left out even if it was told.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::NotFound`] where there is no such app.
    pub async fn list(&self, tags: &[(&str, &str)]) -> Result<Vec<Machine>, ApiError> {
        self.list_of(tags, Some).await
    }

    /// The same, with what is to be kept of each machine: ten thousand are told in thirty
    /// megabytes, and are read one by one.
    ///
    /// # Errors
    /// As [`Machines::list`].
    pub async fn list_of<T>(
        &self,
        tags: &[(&str, &str)],
        mut keep: impl FnMut(Machine) -> Option<T>,
    ) -> Result<Vec<T>, ApiError> {
        let query = tags.iter().map(|(key, value)| (format!("metadata.{key}"), *value));
        let request = self.ask(Action::List, &["machines"]).query(query);
        let is_asked = |machine: &Machine| {
            tags.iter().all(|(key, value)| match machine.tag(key) {
                Some(told) => told == *value,
                // An incomplete config may lack any of its tags.
                None => machine.config.is_none(),
            })
        };
        let read = |member: &[u8]| {
            let machine: Machine = json(member)?;
            Ok(if is_asked(&machine) { keep(machine) } else { None })
        };
        self.call(&request, Members::new(read)).await
    }

    /// A machine; none where Fly does not know it. One that was destroyed may still be told.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::NotFound`] where it is the app that is not there.
    pub async fn get(&self, id: &str) -> Result<Option<Machine>, ApiError> {
        let request = self.ask(Action::Get, &["machines", id]).of(id);
        match self.read(request).await {
            Err(ApiError::NotFound(answer)) if !is_of_app(&answer) => Ok(None),
            read => read.map(Some),
        }
    }

    /// Makes a machine. Fly has no key that makes this idempotent: the name is the handle.
    ///
    /// # Errors
    /// See [`ApiError`]; after [`ApiError::Ambiguous`] look for the name before the next try.
    pub async fn create(&self, wish: &CreateMachine) -> Result<Machine, ApiError> {
        self.create_if(wish, &|| true).await
    }

    /// The same, unless it is not wanted any more when its turn comes: an app takes one create in a
    /// second, and much may happen while a hundred wait.
    ///
    /// # Errors
    /// See [`Machines::create`]; [`ApiError::Unavailable`] where it was not wanted any more.
    pub async fn create_if(
        &self,
        wish: &CreateMachine,
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Machine, ApiError> {
        let secrets = wish.config.env.values().cloned().collect();
        let request = self.ask(Action::Create, &["machines"]).json(wish).hide(secrets);
        self.call_if(&request, Whole::new(json), is_wanted).await
    }

    /// Starts a machine that is stopped or suspended (or `created` without having been started).
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::NotNow`] in a state from which it cannot.
    pub async fn start(&self, id: &str) -> Result<(), ApiError> {
        self.run(self.ask(Action::Start, &["machines", id, "start"]).of(id)).await
    }

    /// Stops a machine. It may be repeated.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn stop(&self, id: &str, wish: &StopMachine) -> Result<(), ApiError> {
        self.run(self.ask(Action::Stop, &["machines", id, "stop"]).of(id).json(wish)).await
    }

    /// Destroys a machine, whatever it does. One that is not there is destroyed already.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn destroy(&self, id: &str) -> Result<(), ApiError> {
        let request = self.ask(Action::Destroy, &["machines", id]).of(id);
        gone(self.run(request.query([("force".to_owned(), "true")])).await)
    }

    /// Sets one of a machine's tags. Makes no new version and restarts nothing.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn set_metadata(&self, id: &str, key: &str, value: &str) -> Result<(), ApiError> {
        let wish = wish::SetMetadata { value };
        let request = self.ask(Action::SetMetadata, &["machines", id, "metadata", key]);
        self.run(request.of(id).json(&wish)).await
    }

    /// A machine's last events (at most 50), newest first.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::NotFound`] once the machine is forgotten.
    pub async fn events(&self, id: &str) -> Result<Vec<MachineEvent>, ApiError> {
        let request = self.ask(Action::Events, &["machines", id, "events"]).of(id);
        self.read(request.query([("limit".to_owned(), "50")])).await
    }

    /// The app's volumes. Whole, or an error.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn volumes(&self) -> Result<Vec<Volume>, ApiError> {
        let read = |member: &[u8]| json(member).map(Some);
        self.call(&self.ask(Action::Volumes, &["volumes"]), Members::new(read)).await
    }

    /// Makes a volume. **Names are not unique**: a second call makes a second one.
    ///
    /// # Errors
    /// See [`ApiError`]; after [`ApiError::Ambiguous`] look for the name before the next try.
    pub async fn create_volume(&self, wish: &CreateVolume) -> Result<Volume, ApiError> {
        self.read(self.ask(Action::CreateVolume, &["volumes"]).json(wish)).await
    }

    /// Destroys a volume and what is on it. One that is not there is destroyed already.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::Conflict`] or [`ApiError::NotNow`] while a machine has it,
    /// which may be told for minutes after that machine was destroyed.
    pub async fn destroy_volume(&self, id: &str) -> Result<(), ApiError> {
        gone(self.run(self.ask(Action::DestroyVolume, &["volumes", id]).of(id)).await)
    }

    /// The app; none where there is no such app.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::Forbidden`] where it is somebody else's.
    pub async fn app(&self) -> Result<Option<App>, ApiError> {
        match self.read(self.ask(Action::App, &[])).await {
            Err(ApiError::NotFound(_)) => Ok(None),
            read => read.map(Some),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.inner.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, action: Action, path: &[&str]) -> Request {
        let mut request = Request::new(action, &self.inner.app);
        request.path.extend(path.iter().map(|&segment| segment.to_owned()));
        request
    }

    /// Makes a call and reads its answer.
    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, ApiError> {
        self.call(&request, Whole::new(json)).await
    }

    /// Makes a call whose answer says no more than that it was made.
    async fn run(&self, request: Request) -> Result<(), ApiError> {
        self.call(&request, Whole::new(|_: &[u8]| Ok(()))).await
    }

    async fn call<R: Reading>(&self, request: &Request, reading: R) -> Result<R::Out, ApiError> {
        self.call_if(request, reading, &|| true).await
    }

    async fn call_if<R: Reading>(
        &self,
        request: &Request,
        reading: R,
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<R::Out, ApiError> {
        request.check()?;
        let clock = &self.inner.ambient.clock;
        self.breaker().look(clock.now())?;
        let key = (request.action, request.id.clone());
        let mut place = self.inner.gate.enter(key, LONGEST_QUEUE).await.map_err(|wait| {
            let answer = Answer::without(request.action, "as many calls wait as may wait");
            ApiError::RateLimited { after: Some(wait), answer }
        })?;
        if !is_wanted() {
            let answer = Answer::without(request.action, "it was not wanted any more");
            return Err(ApiError::Unavailable(answer));
        }
        // Much may have happened while it waited.
        let admission = self.breaker().admit(clock.now())?;
        let mut probe = Probe { machines: self, admission };
        place.make();
        let end = self.inner.door.pass(request, reading).await;
        probe.ended(&end);
        match end {
            Err(ApiError::RateLimited { after, answer }) => {
                let wait = place.refused(after, self.inner.ambient.ids.unit());
                Err(ApiError::RateLimited { after: Some(wait), answer })
            }
            end => {
                place.taken();
                end
            }
        }
    }
}

/// The right to make a call, given back if the call is dropped before its end.
struct Probe<'a> {
    machines: &'a Machines,
    admission: Admission,
}

impl Probe<'_> {
    fn ended<T>(&mut self, end: &Result<T, ApiError>) {
        let now = self.machines.inner.ambient.clock.now();
        self.machines.breaker().note(self.admission, end, now);
        self.admission = Admission::Free;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if self.admission == Admission::Probe {
            self.machines.breaker().let_go();
        }
    }
}

fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| format!("an answer that cannot be read: {error}"))
}

/// What is not there is destroyed.
fn gone(end: Result<(), ApiError>) -> Result<(), ApiError> {
    match end {
        Err(ApiError::NotFound(answer)) if !is_of_app(&answer) => Ok(()),
        end => end,
    }
}

/// Whether a 404 is about the app as a whole: then it says nothing about a machine of an app that
/// is meant to be there.
fn is_of_app(answer: &Answer) -> bool {
    let said = answer.said.to_lowercase();
    let mut words = said.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word == "app") && !said.contains("machine") && !said.contains("volume")
}

/// Whether a name can stand in a path as it is.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(plain)
}

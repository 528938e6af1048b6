//! The one fault of a server's life: at a named step, or at a call to Fly. A crash ends the life then
//! and there: whoever would go on waits for ever, and somebody else brings up the next one.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use open_dispatch::{
    ambient::{self, Mode, Steps},
    dev_fly::{Action, Caller, DevFly, LostAnswer, Trouble, call::Call},
    runtime::fly::api::{Carrier, Unanswered},
};
use tokio::sync::Notify;

/// What befalls a call to Fly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woe {
    /// The server ends before it leaves.
    CrashBefore,
    /// The server ends once it was done, before the answer is read.
    CrashAfter,
    /// It is done, or not, and nobody can tell from the answer.
    Lost { done: bool, answer: LostAnswer },
    /// 429.
    TooMany,
    /// 503, and not done.
    Unavailable,
}

impl Woe {
    /// What can befall a call that changes something.
    pub const OF_WRITES: [Self; 10] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Lost { done: true, answer: LostAnswer::Timeout },
        Self::Lost { done: true, answer: LostAnswer::BadGateway },
        Self::Lost { done: true, answer: LostAnswer::Dropped },
        Self::Lost { done: false, answer: LostAnswer::Timeout },
        Self::Lost { done: false, answer: LostAnswer::BadGateway },
        Self::Lost { done: false, answer: LostAnswer::Dropped },
        Self::TooMany,
        Self::Unavailable,
    ];
    /// What can befall one that only reads.
    pub const OF_READS: [Self; 6] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Lost { done: false, answer: LostAnswer::Timeout },
        Self::Lost { done: false, answer: LostAnswer::Dropped },
        Self::TooMany,
        Self::Unavailable,
    ];
}

/// The fault of one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// At the step of this number.
    Step(usize, Mode),
    /// At the call to Fly of this number.
    Call(usize, Woe),
}

/// One life of the server: what it does passes here.
pub struct Life {
    fault: Option<Fault>,
    fly: Arc<DevFly>,
    caller: Caller,
    steps: Mutex<Vec<&'static str>>,
    calls: Mutex<Vec<Action>>,
    fired: AtomicBool,
    over: AtomicBool,
    /// Rung when it is over.
    pub end: Notify,
}

impl Life {
    pub fn new(fly: &Arc<DevFly>, fault: Option<Fault>) -> Arc<Self> {
        Arc::new(Self {
            fault,
            caller: fly.caller(),
            fly: Arc::clone(fly),
            steps: Mutex::default(),
            calls: Mutex::default(),
            fired: AtomicBool::new(false),
            over: AtomicBool::new(false),
            end: Notify::new(),
        })
    }

    pub fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    pub fn steps(&self) -> Vec<&'static str> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn calls(&self) -> Vec<Action> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the life; nobody of it does anything any more.
    pub fn kill(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.end.notify_one();
    }

    /// Whoever comes here after the end goes no further.
    async fn unless_over(&self) {
        if self.over.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn fire(&self, mode: Mode, step: &'static str) -> Result<(), ambient::Fault> {
        self.fired.store(true, Ordering::SeqCst);
        if matches!(mode, Mode::CrashBefore | Mode::CrashAfter) {
            self.kill();
            self.unless_over().await;
        }
        Err(ambient::Fault::Error(step))
    }
}

#[async_trait]
impl Steps for Life {
    async fn before(&self, step: &'static str) -> Result<(), ambient::Fault> {
        self.unless_over().await;
        let n = {
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.push(step);
            steps.len() - 1
        };
        match self.fault {
            Some(Fault::Step(at, mode @ (Mode::CrashBefore | Mode::ErrorBefore))) if at == n => {
                self.fire(mode, step).await
            }
            _ => Ok(()),
        }
    }

    async fn after(&self, step: &'static str) -> Result<(), ambient::Fault> {
        self.unless_over().await;
        match self.fault {
            // Of several passages of one name at once, the first to end counts.
            Some(Fault::Step(at, mode @ (Mode::CrashAfter | Mode::ErrorAfter)))
                if self.steps().get(at) == Some(&step) && !self.has_fired() =>
            {
                self.fire(mode, step).await
            }
            _ => Ok(()),
        }
    }
}

/// The way to the fake, without a socket.
pub struct Way(pub Arc<Life>);

#[async_trait]
impl Carrier for Way {
    async fn carry(&self, request: reqwest::Request) -> Result<reqwest::Response, Unanswered> {
        let life = &self.0;
        life.unless_over().await;
        let action = Call::read(request.method().as_str(), request.url().path()).action;
        let n = {
            let mut calls = life.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(action);
            calls.len() - 1
        };
        let woe = match life.fault {
            Some(Fault::Call(at, woe)) if at == n => Some(woe),
            _ => None,
        };
        life.fired.fetch_or(woe.is_some(), Ordering::SeqCst);
        let refused = |status| Trouble::Refused { status, error: "no".into(), code: None };
        let trouble = match woe {
            None | Some(Woe::CrashAfter) => None,
            Some(Woe::CrashBefore) => {
                life.kill();
                life.unless_over().await;
                None
            }
            Some(Woe::Lost { done, answer }) => Some(Trouble::Lost { committed: done, answer }),
            Some(Woe::TooMany) => Some(Trouble::RateLimited { retry_after: None }),
            Some(Woe::Unavailable) => Some(refused(503)),
        };
        if let Some(trouble) = trouble {
            life.fly.faults().once(action, trouble);
        }
        let answer = self.call(request).await;
        if woe == Some(Woe::CrashAfter) {
            life.kill();
        }
        life.unless_over().await;
        match answer {
            Some(answer) => Ok(answer.into()),
            None => Err(Unanswered { may_have_arrived: true, why: "the line broke".into() }),
        }
    }
}

impl Way {
    async fn call(&self, request: reqwest::Request) -> Option<hyper::Response<bytes::Bytes>> {
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default().to_vec();
        let mut asked = hyper::Request::builder()
            .method(request.method().clone())
            .uri(request.url().as_str())
            .body(bytes::Bytes::from(body))
            .expect("a request");
        *asked.headers_mut() = request.headers().clone();
        self.0.caller.call(asked).await
    }
}

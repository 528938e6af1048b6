//! The controllers: what the loop makes of each kind.
//!
//! | controller | reads | writes | acts on |
//! |---|---|---|---|
//! | [`JobController`] | a Job, its Sprites | Sprites, the Job's status | the store alone |
//! | [`AgentController`] | an Agent, its Sprites, its turns | Sprites, turns, orders, the Agent's status | the store alone |
//! | [`FleetController`] | a Fleet, its Agents and Jobs | these, the Fleet's status | the store alone |
//! | [`ScheduleController`] | a Schedule, its Jobs | Jobs, the Schedule's status | the store alone |
//! | [`AdmissionController`] | all Sprites of a runtime | `Admitted` of each | the store alone |
//! | [`KeepsakeController`] | who is there | nothing | what a runtime keeps of those who are not |
//! | [`SweepController`] | who is there, what Fly holds | what is remembered of leaks | machines and volumes that belong to nobody |
//! | [`SpriteController`] | a Sprite, what its runtime sees | its conditions, its inbox | the runtime |
//!
//! Each is a pure `plan` over what was read, and hands that do what the plan says. A plan is
//! made anew from scratch at each reconcile; nothing is remembered between two of them but in
//! the store. So a crash between any two steps leaves a state that the next plan understands.
//! Every effect, each commit included, passes a named step.
//!
//! **The life of a Job.** It is committed with a finalizer. The Job controller commits its first
//! Sprite together with the number of it, so that no number is used twice. Admission gives the
//! Sprite one of its runtime's slots. The Sprite controller looks, starts it, and from then on
//! only looks, while the sprite reports by itself; when a stop is wanted, it orders it, and after
//! thirty seconds kills. Once the sprite is *gone* (no process) and *drained* (its exit is held, or
//! a minute has passed and the gap is told), it cleans up and lets go of the Sprite. Only now
//! does the Job controller make the next attempt, or declare the Job's end.
//!
//! **The life of an Agent** is the same, with one Sprite after another for as long as somebody wants
//! it, and within a Sprite's life one run after another: it sleeps and is woken. What it is told
//! are turns; their life stands in `agent/turns.rs`.
//!
//! **Fleets and Schedules** make Agents and Jobs, and never Sprites. What they make bears an owner
//! reference by uid, and nothing else is ever theirs: an object of the right name that is not is told,
//! and left alone.

mod admission;
mod agent;
mod attempt;
mod fleet;
mod hands;
mod history;
mod job;
mod keepsake;
mod made;
mod schedule;
mod sprite;
mod sweep;
pub mod words;

pub use admission::AdmissionController;
pub use agent::AgentController;
pub use attempt::sprite_name;
pub use fleet::{Directories, FleetController, NoSources};
pub use job::JobController;
pub use keepsake::KeepsakeController;
pub use schedule::ScheduleController;
pub use sprite::{SpriteController, Tokens};
pub use sweep::SweepController;

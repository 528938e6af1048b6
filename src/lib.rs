//! Open Dispatch: declare coding agents; drive them from chat; let one loop keep the world as
//! declared.
//!
//! Editors write `spec`. Observers write `status`, output and events. Only the reconciler acts.
//!
//! | room | one idea | may know |
//! |---|---|---|
//! | [`resource`] | the vocabulary: types, validation, schema, YAML with diagnostics | nobody |
//! | [`ambient`] | time, chance and the right to act, injected | nobody |
//! | [`dev_fly`] | a fake of Fly's Machines API, for who has no account and for tests | nobody |
//! | [`metrics`] | counters and what is read off for `/metrics` | nobody |
//! | [`config`] | what the server is told: flags, environment, defaults | of `resource` the names of the agents |
//! | [`secrets`] | values that specs name and never hold | nobody |
//! | [`access`] | who may do what: pure decisions | `store`, for its rows |
//! | [`store`] | objects, revisions, the ledgers; one way to write | `resource` |
//! | [`runtime`] | where sprites live | `resource`, `secrets` |
//! | [`reconcile`] | queue, engine and controllers: the only hands | `resource`, `store`, `runtime`, `metrics` |
//! | [`token`] | what sprites and clients show when they speak | nobody |
//! | [`server`] | HTTP: webhooks, the API, streams | `access`, `resource`, `secrets`, `store`, `token`, `metrics` |
//! | [`source`] | desired state from files: directories, Git, inventory, overrides | `resource`, `store`, `secrets`, the engine's `Controller` |
//! | [`chat`] | commands in, transcripts out: grammar, rendering, outbox, platforms | `access`, `resource`, `store`, the engine's `Controller` (in `outbox` alone) |
//! | [`app`] | where the rooms meet: the server as a whole | all but `cli` |
//! | [`cli`] | the command line | the HTTP API, `resource`, `config`, and of `chat` the words (`frames`, `grammar`); `serve` alone knows `app`, `dev_fly.rs` alone `dev_fly`; `doctor` alone the clients that it tries: of `runtime` `fly`, of `source` `git` with `secrets`; `token` |
//!
//! `ambient` is handed to everybody. `tests/rooms.rs` holds this table against the sources;
//! `docs/architecture.md` tells the life of a chat line through these rooms.

pub mod access;
pub mod ambient;
pub mod app;
pub mod chat;
pub mod cli;
pub mod config;
pub mod dev_fly;
pub mod metrics;
pub mod reconcile;
pub mod resource;
pub mod runtime;
pub mod secrets;
pub mod server;
pub mod source;
pub mod store;
pub mod token;

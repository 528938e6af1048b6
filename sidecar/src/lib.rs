//! What runs inside every sprite, on this machine and in the cloud alike.
//!
//! A *sprite* is one sandbox: a process tree or a virtual machine. In it runs one
//! reporter, and the reporter runs one agent. The reporter is the agent's parent, keeps
//! what it says in a spool on disk, numbers it, and posts it to the server until the
//! server has said that it holds it. It outlives the server, and its spool outlives both.
//!
//! # The life of a line
//!
//! An agent prints a line. Its [`driver`] reads the bytes and says them to the [`run`] loop
//! around it. There [`shape`] masks what is secret, cuts the bytes where no character tears, and
//! makes events of them. The [`spool`] numbers each and puts it on disk. [`report`] posts it in
//! the next batch, again and again if need be, and when the server answers that it holds the
//! number, the spool lets go of it.
//!
//! # What holds at every instant
//!
//! - A number is used once, and a number that was used is sent until it is held.
//! - One run directory never has two agents, however often it is started ([`rundir`]).
//! - When the exit event exists, no process of the agent does ([`process`]).
//! - No secret passes [`shape`], and the token never enters the agent's environment.
//!
//! | room | one idea |
//! |---|---|
//! | [`wire`] | the types that both sides speak; the server takes these and the runner |
//! | [`cli`] | the command line that both binaries share |
//! | [`boot`] | a machine of its own: from its first instant to the run that is its |
//! | [`run`] | one run from lock to last acknowledgement: the loop, the clocks, the kill ladder, the workspace |
//! | [`rundir`] | what a run leaves on disk, and who may believe it |
//! | [`driver`] | one file per agent CLI: its protocol in, our events out |
//! | [`shape`] | from what a driver said to events that may be numbered |
//! | [`mask`] | secrets never leave, in whatever pieces they come |
//! | [`spool`] | numbered events on disk until the server holds them |
//! | [`report`] | batches up, orders down, over a server that comes and goes |
//! | [`process`] | starting, watching and killing a process tree; platform twins |
//! | [`worktrees`] | which of a repository's notes are a worktree's |
//! | [`ambient`] | time and chance, read in one place |
//! | [`steps`] | named effects, so that tests can let the reporter die at each |

pub mod ambient;
pub mod boot;
pub mod cli;
pub mod driver;
pub mod mask;
pub mod process;
pub mod report;
pub mod run;
pub mod rundir;
pub mod shape;
pub mod spool;
pub mod steps;
pub mod wire;
pub mod worktrees;

//! What runs inside every sprite, on this machine and in the cloud alike.
//!
//! A *sprite* is one sandbox: a process tree or a virtual machine. In it runs one
//! reporter, and the reporter runs one agent. The reporter is the agent's parent, keeps
//! what it says in a spool on disk, numbers it, and posts it to the server until the
//! server has said that it holds it. It outlives the server, and its spool outlives both.
//!
//! | room | one idea |
//! |---|---|
//! | [`wire`] | the types that both sides speak; the server takes these and the runner |
//! | [`driver`] | one file per agent CLI: its protocol in, our events out |
//! | [`process`] | starting, watching and killing a process tree; platform twins |

pub mod driver;
pub mod process;
pub mod wire;

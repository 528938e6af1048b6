//! The command line: words in, the HTTP API, text out.

pub mod chat;

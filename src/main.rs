//! The program: the command line, and under another name the reporter of local sprites.

use std::{env, ffi::OsStr, process::ExitCode};

fn main() -> ExitCode {
    // So the server always finds a reporter of its own version, even where no second binary was
    // installed: this one by the reporter's name, or with that name as its hidden first argument.
    if env::args_os().next().is_some_and(|program| sprite_reporter::cli::is_called(&program)) {
        return sprite_reporter::cli::main(env::args_os());
    }
    if env::args_os().nth(1).as_deref() == Some(OsStr::new(sprite_reporter::cli::PROGRAM)) {
        return sprite_reporter::cli::main(env::args_os().skip(1));
    }
    // The first thing: whoever makes a TLS connection later finds this provider. An error would
    // mean that another was installed before, and nothing can have been.
    let _ = rustls::crypto::ring::default_provider().install_default();
    open_dispatch::cli::main()
}

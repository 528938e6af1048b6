//! The program: the command line, and under another name the reporter of local sprites.

use std::{env, ffi::OsStr, path::Path, process::ExitCode};

/// The name under which this program is the reporter, and the hidden first argument that asks
/// for the same: so the server always finds a reporter of its own version, even where no
/// second binary was installed.
const REPORTER: &str = "sprite-reporter";

fn main() -> ExitCode {
    let mut args = env::args_os();
    let program = args.next();
    #[cfg(any())]
    if program.as_deref().map(Path::new).and_then(Path::file_name) == Some(OsStr::new(REPORTER)) {
        return sprite_reporter::cli::main(args);
    }
    #[cfg(any())]
    if env::args_os().nth(1).as_deref() == Some(OsStr::new(REPORTER)) {
        return sprite_reporter::cli::main(args.skip(1));
    }
    // The first thing: whoever makes a TLS connection later finds this provider. An error would
    // mean that another was installed before, and nothing can have been.
    let _ = rustls::crypto::ring::default_provider().install_default();
    open_dispatch::cli::main()
}

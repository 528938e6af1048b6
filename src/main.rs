//! The command line.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    if env::args_os().next().is_some_and(|program| sprite_reporter::cli::is_called(&program)) {
        return sprite_reporter::cli::main(env::args_os());
    }
    ExitCode::SUCCESS
}

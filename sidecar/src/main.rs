//! The reporter as a program of its own: small, static, no runtime needed in the agent's image.

fn main() -> std::process::ExitCode {
    sprite_reporter::cli::main(std::env::args_os())
}

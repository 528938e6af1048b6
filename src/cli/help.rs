//! The commands as the terminal shows their help.
//!
//! What stands behind the options is written by hand, broken into lines of this source. A terminal
//! that is narrower would break these once more, and single words would stand on lines of their own. So
//! lines that are one paragraph are joined, and clap breaks them where the terminal ends. Examples and
//! lists, whose lines begin with a space, stay as they are.

use clap::{Command, CommandFactory as _};

use super::args::Cli;

/// The command line with all its commands.
#[must_use]
pub fn command() -> Command {
    flowing(Cli::command())
}

/// A command and those below it, with paragraphs that flow.
fn flowing(command: Command) -> Command {
    let text = command.get_after_help().map(ToString::to_string);
    let command = match text {
        Some(text) => command.after_help(joined(&text)),
        None => command,
    };
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    below.into_iter().fold(command, |command, name| command.mut_subcommand(name, flowing))
}

/// A text whose paragraphs stand on one line each.
fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ');
        if !joined.is_empty() {
            joined.push(if goes_on && is_prose { ' ' } else { '\n' });
        }
        joined.push_str(line);
        // What introduces a list is no part of the list.
        goes_on = is_prose && !line.ends_with(':');
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_flow_and_examples_stay_as_they_are() {
        let text = "Examples:\n  a -f\n  b\n\nIt does this\nand that. It ends with\n  0   well\n  1   not\nthen\n";
        assert_eq!(
            joined(text),
            "Examples:\n  a -f\n  b\n\nIt does this and that. It ends with\n  0   well\n  1   not\nthen"
        );
    }

    #[test]
    fn no_word_of_help_stands_alone_because_a_line_was_broken_twice() {
        for width in [72, 80, 92, 100, 120] {
            let mut cli = command().term_width(width);
            cli.build();
            for command in cli.get_subcommands_mut() {
                let help = command.render_help().to_string();
                let Some((_, after)) = help.split_once("Examples:") else { continue };
                for paragraph in after.split("\n\n") {
                    let lines: Vec<&str> = paragraph.lines().collect();
                    for pair in lines.windows(2).filter(|pair| !pair[1].starts_with(' ')) {
                        let first = pair[1].split(' ').next().unwrap_or_default();
                        let fits = pair[0].len() + 1 + first.len() <= width;
                        let is_prose = !pair[0].starts_with(' ') && !pair[0].ends_with(':');
                        assert!(
                            !(fits && is_prose),
                            "{} at {width}: `{first}` has room behind: {}",
                            command.get_name(),
                            pair[0]
                        );
                    }
                }
            }
        }
    }
}

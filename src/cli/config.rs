//! `config`: what the server would be told, and from where.

use comfy_table::{Table, presets};

use super::{
    args::{ConfigCommand, ConfigForm, ConfigViewArgs},
    error::Error,
    out,
    serve::{layers, machine},
};
use crate::config::{Config, File, Flags, Line, view};

/// Runs `config`.
///
/// # Errors
/// A setting that cannot be read, with its place.
pub fn run(command: ConfigCommand) -> Result<u8, Error> {
    match command {
        ConfigCommand::View(args) => show(args),
        ConfigCommand::Schema => {
            let schema = serde_json::to_string_pretty(&File::schema());
            out::line(schema.unwrap_or_default()).map(|()| 0)
        }
    }
}

fn show(args: ConfigViewArgs) -> Result<u8, Error> {
    let layers = layers(args.data.clone(), args.config)?;
    let flags = Flags { data: args.data, ..Flags::default() };
    let config = Config::resolve(&flags, &layers, machine())?;
    let lines = view(&config, &layers);
    match args.output {
        ConfigForm::Json => {
            let text = serde_json::to_string_pretty(&lines);
            out::line(text.unwrap_or_default())?;
        }
        ConfigForm::Text => {
            out::line(table(&lines))?;
            match layers.dot_env() {
                Some(path) => out::note(format!("read {}", path.display())),
                None => out::hint("no .env file was found in this directory or the data directory"),
            }
            for warning in layers.warnings() {
                out::note(warning);
            }
        }
    }
    Ok(0)
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "VALUE", "FROM", "READ BY"]);
    for line in lines {
        let value = if line.value.is_empty() { "-" } else { &line.value };
        table.add_row([line.name, &out::harmless(value), &line.source, line.reader]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

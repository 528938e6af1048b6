//! `teams package`: makes the app package that people upload to Microsoft Teams.
//!
//! A package is a ZIP archive of a manifest and two icons. They lie in `examples/teams`, for
//! whoever wants to make their own; the app's id is put into the manifest here.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
};

use uuid::Uuid;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{
    args::{TeamsCommand, TeamsPackageArgs},
    error::Error,
    out,
    serve::layers,
};

const MANIFEST: &str = include_str!("../../examples/teams/manifest.json");
const COLOR: &[u8] = include_bytes!("../../examples/teams/color.png");
const OUTLINE: &[u8] = include_bytes!("../../examples/teams/outline.png");
/// What stands in the manifest for the app's id.
const APP_ID: &str = "{{APP_ID}}";

/// The variables that give the app's id, as for the server.
const APP_IDS: [&str; 2] = ["MICROSOFT_APP_ID", "TEAMS_APP_ID"];

/// Runs `teams`.
///
/// # Errors
/// An app id that is none, or a file that cannot be written.
pub fn run(command: TeamsCommand) -> Result<u8, Error> {
    match command {
        TeamsCommand::Package(args) => package(&args),
    }
}

fn package(args: &TeamsPackageArgs) -> Result<u8, Error> {
    let settings = layers(None, None).ok();
    let set = |name: &str| settings.as_ref().and_then(|layers| layers.variable(name));
    let id = args.app_id.clone().or_else(|| APP_IDS.iter().find_map(|name| set(name)));
    let id = id.as_deref().unwrap_or_default().trim();
    let id = Uuid::parse_str(id).map_err(|_| {
        let what = match id {
            "" => "no app id is given".to_owned(),
            id => format!("`{id}` is no app id"),
        };
        Error::Usage(format!(
            "{what}; write --app-id, or set MICROSOFT_APP_ID, to the Microsoft App ID \
             that the Azure Bot shows, a GUID"
        ))
    })?;
    let failed = |why: &dyn std::fmt::Display| {
        Error::Usage(format!("{} cannot be written: {why}", args.out.display()))
    };
    let bytes = zipped(&id.hyphenated().to_string()).map_err(|error| failed(&error))?;
    fs::write(&args.out, bytes).map_err(|error| failed(&error))?;
    out::line(format!("{} written; upload it in Teams: {MEND}", shown(&args.out)))?;
    Ok(0)
}

/// Where it is uploaded.
const MEND: &str = "Apps > Manage your apps > Upload an app";

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The package, always the same for the same id.
fn zipped(id: &str) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let manifest = MANIFEST.replace(APP_ID, id);
    let files =
        [("manifest.json", manifest.as_bytes()), ("color.png", COLOR), ("outline.png", OUTLINE)];
    for (name, bytes) in files {
        zip.start_file(name, options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ID: &str = "0aa00000-0000-4000-8000-000000000001";

    #[test]
    fn a_package_holds_a_manifest_with_our_id_and_two_icons_of_the_right_size() {
        let mut zip = zip::ZipArchive::new(Cursor::new(zipped(ID).unwrap())).unwrap();
        let mut read = |name: &str| {
            let mut bytes = Vec::new();
            zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let manifest: serde_json::Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        assert_eq!((&manifest["id"], &manifest["bots"][0]["botId"]), (&ID.into(), &ID.into()));
        let size = |png: &[u8]| u32::from_be_bytes(png[16..20].try_into().unwrap());
        assert_eq!((size(&read("color.png")), size(&read("outline.png"))), (192, 32));
    }

    #[test]
    fn the_manifest_keeps_to_the_limits_of_teams() {
        let manifest: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
        let length = |pointer: &str| manifest.pointer(pointer).unwrap().as_str().unwrap().len();
        assert!(length("/name/short") <= 30 && length("/name/full") <= 100);
        assert!(length("/description/short") <= 80 && length("/description/full") <= 4000);
        let lists = manifest["bots"][0]["commandLists"].as_array().unwrap();
        assert!(lists.len() <= 3);
        for command in lists.iter().flat_map(|list| list["commands"].as_array().unwrap()) {
            let title = command["title"].as_str().unwrap();
            assert!(title.len() <= 32 && title.starts_with("od-"), "{title}");
        }
        assert!(lists.iter().all(|list| list["commands"].as_array().unwrap().len() <= 10));
    }
}

//! `patch`: fields of objects, by a merge patch or by operations.

use std::io::Read as _;

use reqwest::Method;
use serde_json::Value;

use super::{
    args::{DryRun, PatchArgs, PatchType},
    client::{AS_JSON, Client, JSON_PATCH, MERGE_PATCH, member},
    create::Told,
    error::Error,
    object::print_object,
    out,
    select::select,
    target::full_name,
};
use crate::resource::{merge::merge_patch, yaml};

/// Runs `patch`.
///
/// # Errors
/// A patch that is none, or the server's refusal.
pub async fn patch(args: PatchArgs) -> Result<u8, Error> {
    let patch = read(&args)?;
    let client = Client::find(&args.server)?;
    let objects = select(&client, &args.what, None, false).await?;
    let dry = args.dry.dry_run;
    let content = match args.sort {
        PatchType::Merge => MERGE_PATCH,
        PatchType::Json => JSON_PATCH,
    };
    let mut told = Told::default();
    for (kind, name) in objects {
        let whole = member(kind, &name);
        let path = match args.subresource {
            Some(_) => format!("{whole}/status"),
            None => whole.clone(),
        };
        let Some(before) = told.or(client.get(&whole, &[], AS_JSON).await)? else { continue };
        let after = match dry {
            DryRun::Client if args.sort == PatchType::Merge => {
                let mut after = before.clone();
                merge_patch(&mut after, &patch);
                Ok(after)
            }
            // Operations are the server's to judge: here they would need a judge of their own.
            DryRun::Client => {
                let query = DryRun::Server.query();
                client.write_as(Method::PATCH, &path, query, content, &patch).await
            }
            _ => client.write_as(Method::PATCH, &path, dry.query(), content, &patch).await,
        };
        let Some(after) = told.or(after)? else { continue };
        if let Some(format) = args.output {
            print_object(&after, format)?;
            continue;
        }
        let same = |part: &str| before[part] == after[part];
        let same_meta = |part: &str| before["metadata"][part] == after["metadata"][part];
        let unchanged =
            same("spec") && same("status") && same_meta("labels") && same_meta("annotations");
        let word = if unchanged { "patched (no change)" } else { "patched" };
        out::line(format!("{} {word}{}", full_name(kind, &name), dry.words()))?;
    }
    told.end()
}

/// The patch, from the command line or from a file.
fn read(args: &PatchArgs) -> Result<Value, Error> {
    let (place, text) = match (&args.patch, &args.patch_file) {
        (Some(text), _) => ("-p".to_owned(), text.clone()),
        (None, Some(path)) => {
            let failed = |source| Error::File { path: path.clone(), source };
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).map_err(failed)?;
            } else {
                text = std::fs::read_to_string(path).map_err(failed)?;
            }
            (path.display().to_string(), text)
        }
        (None, None) => (String::new(), String::new()),
    };
    let patch = yaml::one(&text).map_err(|faults| {
        let lines: Vec<String> = faults.0.iter().map(|fault| format!("{place}: {fault}")).collect();
        Error::Faults(lines.join("\n"))
    })?;
    let (fits, form) = match args.sort {
        PatchType::Merge => {
            (patch.is_object(), "a merge patch is an object, such as {\"spec\": {}}")
        }
        PatchType::Json => (patch.is_array(), "a JSON patch is a list of operations"),
    };
    if fits { Ok(patch) } else { Err(Error::Usage(format!("{place}: {form}"))) }
}

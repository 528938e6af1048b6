//! `token`: makes, lists and revokes tokens of the API.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{CreateTokenArgs, ListTokensArgs, RevokeTokenArgs, TokenCommand},
    client::{AS_JSON, Client, api, escaped},
    error::Error,
    object::print_json,
    out,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::table::age,
};

/// What a token is to be.
pub(super) struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its role.
    pub role: &'a str,
    /// How long it holds.
    pub expires: Option<&'a str>,
    /// Whether it ends the one that has its name.
    pub replace: bool,
}

/// Runs `token`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn token(command: TokenCommand) -> Result<u8, Error> {
    match command {
        TokenCommand::Create(args) => create(args).await,
        TokenCommand::List(args) => list(args).await,
        TokenCommand::Revoke(args) => revoke(args).await,
    }
}

/// Makes a token; answers with what the server tells of it, this once with the token itself.
pub(super) async fn make(client: &Client, wanted: &Wanted<'_>) -> Result<Value, Error> {
    let wish = json!({
        "name": wanted.name,
        "role": wanted.role,
        "expires": wanted.expires,
        "replace": wanted.replace,
    });
    client.write(Method::POST, &api("tokens"), &[], &wish).await
}

async fn create(args: CreateTokenArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let wanted = Wanted {
        name: &args.name,
        role: &args.role,
        expires: args.expires.as_deref(),
        replace: args.replace,
    };
    let row = make(&client, &wanted).await?;
    out::line(text(&row, "token"))?;
    out::note(format!("token/{} created; it is shown this once", args.name));
    Ok(0)
}

async fn list(args: ListTokensArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let list = client.get(&api("tokens"), &[], AS_JSON).await?;
    if args.output.is_some() {
        return print_json(&list).map(|()| 0);
    }
    match list["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => out::note("No tokens found; the server's own stands in its data directory"),
        rows => out::data(table(rows, SystemClock.now()))?,
    }
    Ok(0)
}

/// Ends a token.
pub(super) async fn end(client: &Client, name: &str) -> Result<(), Error> {
    let path = api(&format!("tokens/{}", escaped(name)));
    client.write(Method::DELETE, &path, &[], &Value::Null).await?;
    Ok(())
}

async fn revoke(args: RevokeTokenArgs) -> Result<u8, Error> {
    if args.name.trim_matches('.').is_empty() {
        return Err(Error::Usage(format!("`{}` is no name for a token", args.name)));
    }
    let client = Client::find(&args.server)?;
    end(&client, &args.name).await?;
    out::line(format!("token/{} revoked", args.name))?;
    Ok(0)
}

fn text(row: &Value, member: &str) -> String {
    out::harmless(row[member].as_str().unwrap_or_default())
}

fn table(rows: &[Value], now: Timestamp) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "ROLE", "EXPIRES", "BY", "AGE"]);
    table.add_rows(rows.iter().map(|row| {
        let time = |member: &str| row[member].as_str().and_then(|time| time.parse().ok());
        let expires = match (row["expired"].as_bool(), time("expires")) {
            (Some(true), _) => "over".to_owned(),
            (_, Some(end)) => format!("in {}", age(now, end)),
            (_, None) => "never".to_owned(),
        };
        let made = time("created").map(|made| age(made, now)).unwrap_or_default();
        [text(row, "name"), text(row, "role"), expires, text(row, "by"), made]
    }));
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_as_a_table() {
        let rows = [
            json!({"name": "ci", "role": "viewer", "by": "ada", "expired": false,
                "created": "2026-01-01T00:00:00Z", "expires": "2026-04-01T00:00:00Z"}),
            json!({"name": "laptop", "role": "operator", "by": "bob (token:root)", "expires": null,
                "expired": false, "created": "2026-01-01T00:59:00Z"}),
            json!({"name": "old", "role": "admin", "by": "ada", "expired": true,
                "created": "2025-01-01T00:00:00Z", "expires": "2025-06-01T00:00:00Z"}),
        ];
        insta::assert_snapshot!(table(&rows, "2026-01-01T01:00:00Z".parse().unwrap()));
    }
}

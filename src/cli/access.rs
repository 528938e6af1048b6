//! `access`: who may do what from chat, and what people asked for.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{
        AccessCommand, ApprovePairingArgs, AuditArgs, GrantRoleArgs, ListAccessArgs, RevokeRoleArgs,
    },
    client::{AS_JSON, Client, api, escaped},
    error::Error,
    object::print_json,
    out,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::table::age,
};

/// Runs `access`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn access(command: AccessCommand) -> Result<u8, Error> {
    match command {
        AccessCommand::List(args) => list(args).await,
        AccessCommand::Approve(args) => approve(args).await,
        AccessCommand::Grant(args) => grant(args).await,
        AccessCommand::Revoke(args) => revoke(args).await,
        AccessCommand::Audit(args) => audit(args).await,
    }
}

async fn list(args: ListAccessArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let known = client.get(&api("access"), &[], AS_JSON).await?;
    let waiting = client.get(&api("access/pairings"), &[], AS_JSON).await?;
    if args.output.is_some() {
        let both = json!({"access": known["items"], "pairings": waiting["items"]});
        return print_json(&both).map(|()| 0);
    }
    let (known, waiting) = (items(&known), items(&waiting));
    if known.is_empty() {
        out::note("Nobody has a role; at the console, and with the server's token, all may do all");
    } else {
        out::data(known_table(known, SystemClock.now()))?;
    }
    if !waiting.is_empty() {
        out::note("\nThese wait to be let in; open-dispatch access approve CODE does it:");
        out::data(waiting_table(waiting, SystemClock.now()))?;
    }
    Ok(0)
}

async fn approve(args: ApprovePairingArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let path = api(&format!("access/pairings/{}/approve", escaped(&args.code)));
    let wish = json!({"role": args.role, "by": whoami()});
    let row = client.write(Method::POST, &path, &[], &wish).await?;
    out::line(format!("{} is let in as {}", who(&row), text(&row, "role")))?;
    Ok(0)
}

async fn grant(args: GrantRoleArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let wish = json!({"role": args.role, "by": whoami()});
    let row = client.write(Method::PUT, &path(&args.principal), &[], &wish).await?;
    out::line(format!("{} has the role {}", who(&row), text(&row, "role")))?;
    if row["warning"].is_string() {
        out::note(format!("warning: {}", text(&row, "warning")));
    }
    Ok(0)
}

async fn revoke(args: RevokeRoleArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let wish = json!({"by": whoami()});
    let row = client.write(Method::DELETE, &path(&args.principal), &[], &wish).await?;
    out::line(format!("{} has the role {} no more", who(&row), text(&row, "role")))?;
    Ok(0)
}

async fn audit(args: AuditArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let limit = args.last.to_string();
    let after = args.after.map(|after| after.to_string());
    let mut query = vec![("limit", limit.as_str())];
    query.extend(after.as_deref().map(|after| ("after", after)));
    let list = client.get(&api("audit"), &query, AS_JSON).await?;
    if args.output.is_some() {
        return print_json(&list).map(|()| 0);
    }
    match items(&list) {
        [] if args.after.is_some() => out::note("nobody asked for anything behind that row"),
        [] => out::note("nobody asked for anything yet"),
        rows => out::data(audit_table(rows))?,
    }
    Ok(0)
}

fn path(principal: &str) -> String {
    api(&format!("access/grants/{}", escaped(principal)))
}

/// Who types, for the audit.
fn whoami() -> String {
    std::env::var("USER").unwrap_or_default()
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(row: &Value, member: &str) -> String {
    out::harmless(row[member].as_str().unwrap_or_default())
}

fn who(row: &Value) -> String {
    match text(row, "name") {
        name if name.is_empty() => text(row, "principal"),
        name => format!("{} ({name})", text(row, "principal")),
    }
}

fn known_table(rows: &[Value], now: Timestamp) -> String {
    table(
        &["WHO", "ROLE", "NAME", "BY", "AGE"],
        rows.iter().map(|row| {
            let from = text(row, "from");
            let by = if from == "grant" { text(row, "by") } else { from };
            let made = row["created"].as_str().and_then(|made| made.parse().ok());
            let since = made.map(|made| age(made, now)).unwrap_or_default();
            vec![text(row, "principal"), text(row, "role"), text(row, "name"), by, since]
        }),
    )
}

fn waiting_table(rows: &[Value], now: Timestamp) -> String {
    table(
        &["CODE", "WHO", "NAME", "WHERE", "EXPIRES"],
        rows.iter().map(|row| {
            let expires = row["expires"].as_str().and_then(|end| end.parse().ok());
            let left = expires.map(|end| format!("in {}", age(now, end))).unwrap_or_default();
            let place = &row["conversation"];
            let place = format!("{}/{}", text(place, "platform"), text(place, "channel"));
            vec![text(row, "code"), text(row, "principal"), text(row, "name"), place, left]
        }),
    )
}

fn audit_table(rows: &[Value]) -> String {
    table(
        &["N", "TIME", "WHO", "NAME", "WHERE", "OUTCOME", "WHAT"],
        rows.iter().map(|row| {
            let at = text(row, "at");
            let second = at.split('.').next().unwrap_or_default().trim_end_matches('Z');
            vec![
                row["n"].to_string(),
                format!("{second}Z"),
                text(row, "who"),
                text(row, "name"),
                text(row, "where"),
                text(row, "outcome"),
                text(row, "what"),
            ]
        }),
    )
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_reads_as_tables() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let known = [
            json!({"principal": "slack:UA", "role": "admin", "from": "configuration"}),
            json!({"principal": "slack:channel:C1", "role": "user", "from": "grant", "by": "ada",
                "created": "2026-01-01T00:00:00Z"}),
            json!({"principal": "discord:4", "role": "viewer", "from": "grant", "by": "ada",
                "name": "bob \u{1b}[2J", "created": "2026-01-01T00:59:00Z"}),
        ];
        let waiting = [json!({"code": "BCDFGHJK", "principal": "slack:U2", "name": "carol",
            "conversation": {"platform": "slack", "channel": "D1", "thread": null},
            "created": "2026-01-01T00:30:00Z", "expires": "2026-01-01T01:30:00Z"})];
        let audit = [
            json!({"n": 7, "at": "2026-01-01T00:30:00.123Z", "who": "slack:U2", "name": "carol",
                "where": "slack/D1", "what": "stop api-bot", "outcome": "refused"}),
            json!({"n": 8, "at": "2026-01-01T00:30:01Z", "who": "api", "name": "ada",
                "what": "access grant slack:U2 operator", "outcome": "allowed"}),
        ];
        let told = [known_table(&known, now), waiting_table(&waiting, now), audit_table(&audit)];
        insta::assert_snapshot!(told.join("\n"));
    }
}

//! `approve`: answers what an agent asks for.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::ApproveArgs,
    client::{AS_JSON, Client, member},
    error::Error,
    out,
    target::{self, full_name},
};

/// Runs `approve`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn approve(args: ApproveArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, name) = target::object_or_job(&args.name)?;
    let path = format!("{}/approvals", member(kind, &name));
    let request = match args.request {
        Some(request) => request,
        None => {
            let list = client.get(&path, &[], AS_JSON).await?;
            let Some(oldest) = oldest_pending(&list) else {
                out::note(format!("nothing waits for an answer in {}", full_name(kind, &name)));
                return Err(Error::Told);
            };
            oldest.to_owned()
        }
    };
    let answer = json!({"allow": !args.deny, "message": args.message});
    let id: String = url::form_urlencoded::byte_serialize(request.as_bytes()).collect();
    let answered = client.write(Method::POST, &format!("{path}/{id}"), &[], &answer).await?;
    let word = if args.deny { "denied" } else { "allowed" };
    let title = answered["title"].as_str().unwrap_or_default();
    out::line(format!("{} {word}: {title}", full_name(kind, &name)))?;
    Ok(0)
}

/// The id of the first request in a list that nobody has answered.
fn oldest_pending(list: &Value) -> Option<&str> {
    let items = list["items"].as_array()?;
    items.iter().find(|item| item["state"] == "Pending")?["request"].as_str()
}

//! `approve`: answers what an agent asks for, shows it, and takes back what was allowed for good.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    agents::named,
    args::{AnswerName, ApproveArgs},
    client::{AS_JSON, Client, escaped, member},
    error::Error,
    out,
    send::{asks, author},
    target::full_name,
};
use crate::resource::Kind;

/// Runs `approve`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn approve(args: ApproveArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, object) = named(&client, &args.name).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let whole = full_name(kind, &name);
    if let Some(grant) = &args.revoke {
        return revoke(&client, kind, &name, grant).await;
    }
    let path = format!("{}/approvals", member(kind, &name));
    let list = client.get(&path, &[], AS_JSON).await?;
    let pending: Vec<&Value> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| item["state"] == "Pending")
        .collect();
    if args.list {
        return show(&client, kind, &name, &pending).await;
    }
    let request = match (&args.request, pending.first()) {
        (Some(request), _) => request.clone(),
        (None, Some(oldest)) => oldest["request"].as_str().unwrap_or_default().to_owned(),
        (None, None) => {
            out::note(format!("nothing waits for an answer in {whole}"));
            return Err(Error::Told);
        }
    };
    let answer = if args.deny { AnswerName::No } else { args.answer };
    let asked = pending.iter().find(|item| item["request"] == request.as_str());
    let answers = match asked {
        Some(asked) if answer != AnswerName::No => answers(asked, &args.answers)?,
        _ => Map::new(),
    };
    let body = json!({
        "allow": answer != AnswerName::No,
        "always": answer == AnswerName::Always,
        "message": args.message,
        "answers": answers,
        "by": author(),
    });
    let path = format!("{path}/{}", escaped(&request));
    let answered = client.write(Method::POST, &path, &[], &body).await?;
    let word = match answer {
        AnswerName::Yes => "allowed",
        AnswerName::No => "denied",
        AnswerName::Always => "allowed for good",
    };
    let title = out::harmless(answered["title"].as_str().unwrap_or_default());
    out::line(format!("{whole} {word}: {title}"))?;
    Ok(0)
}

/// The answers by the questions' texts: in their order, a number for what is offered.
fn answers(asked: &Value, given: &[String]) -> Result<Map<String, Value>, Error> {
    let questions = asked["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if given.len() != questions.len() {
        let name = out::harmless(asked["tool"].as_str().unwrap_or_default());
        return Err(Error::Usage(match questions.len() {
            0 => format!("{name} asks no question; leave out --answer"),
            n => format!(
                "{n} answers are asked for; give one --answer for each, see them with --list"
            ),
        }));
    }
    let mut answers = Map::new();
    for (question, given) in questions.iter().zip(given) {
        let options = question["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        let chosen = |word: &str| {
            let place = word.trim().parse::<usize>().ok()?.checked_sub(1)?;
            options.get(place)?.as_str().map(str::to_owned)
        };
        let answer = if question["many"] == true {
            let words = given.split(',').map(|word| chosen(word).unwrap_or(word.trim().to_owned()));
            words.collect::<Vec<_>>().join(", ")
        } else {
            chosen(given).unwrap_or_else(|| given.clone())
        };
        answers.insert(question["text"].as_str().unwrap_or_default().to_owned(), answer.into());
    }
    Ok(answers)
}

/// Shows what waits, and what is allowed for good.
async fn show(client: &Client, kind: Kind, name: &str, pending: &[&Value]) -> Result<u8, Error> {
    for approval in pending {
        out::line(asks(name, approval))?;
    }
    let grants = match kind {
        Kind::Agent => client.get(&grants_path(name), &[], AS_JSON).await?,
        _ => Value::Null,
    };
    let grants = grants["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    for grant in grants {
        let text = |member: &str| out::harmless(grant[member].as_str().unwrap_or_default());
        let (rule, by, id) = (text("rule"), text("by"), text("id"));
        out::line(format!("always allowed by {by}: {rule}"))?;
        out::line(format!("  open-dispatch approve {name} --revoke {id}"))?;
    }
    if pending.is_empty() && grants.is_empty() {
        out::note("nothing waits for an answer, and nothing is allowed for good");
    }
    Ok(0)
}

fn grants_path(agent: &str) -> String {
    format!("{}/grants", member(Kind::Agent, agent))
}

async fn revoke(client: &Client, kind: Kind, name: &str, grant: &str) -> Result<u8, Error> {
    if kind != Kind::Agent {
        return Err(Error::Usage("only agents are allowed anything for good".to_owned()));
    }
    let path = format!("{}/{}", grants_path(name), escaped(grant));
    let revoked = client.write(Method::DELETE, &path, &[], &json!({})).await?;
    let rule = out::harmless(revoked["rule"].as_str().unwrap_or_default());
    out::line(format!("{} asks again before {rule}", full_name(kind, name)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_the_questions_in_their_order_and_numbers_choose() {
        let asked = json!({"tool": "Ask", "questions": [
            {"text": "Which?", "options": ["red", "blue"]},
            {"text": "What?", "options": ["a", "b", "c"], "many": true},
        ]});
        let of = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|word| (*word).to_owned()).collect();
            answers(&asked, &given)
        };
        let expected = json!({"Which?": "blue", "What?": "a, c, my own"});
        assert_eq!(Value::from(of(&["2", "1,3, my own"]).unwrap()), expected);
        assert_eq!(of(&["9", "0"]).unwrap()["Which?"], "9", "what is not offered is text");
        assert_eq!(of(&["1"]).unwrap_err().code(), 2);
        let tool = json!({"tool": "Bash"});
        assert_eq!(answers(&tool, &["x".to_owned()]).unwrap_err().code(), 2);
    }
}

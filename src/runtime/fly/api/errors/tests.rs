use serde_json::json;

use super::*;

fn told(action: Action, status: u16, body: &str) -> ApiError {
    let headers =
        AnswerHeaders { request_id: Some("01HREQ-fra".into()), ..AnswerHeaders::default() };
    classify(action, status, &headers, body.as_bytes())
}

/// The variant's name, with how far a want of room reaches.
fn kind(error: &ApiError) -> String {
    match error {
        ApiError::Capacity { scope, .. } => format!("Capacity({scope:?})"),
        other => {
            let name = format!("{other:?}");
            name.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
        }
    }
}

fn error(text: &str) -> String {
    json!({ "error": text }).to_string()
}

fn coded(status: &str, text: &str) -> String {
    json!({ "error": text, "status": status }).to_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table has as many lines as there are meanings")]
fn every_meaning_that_was_seen_is_told_apart() {
    use Action::{
        Create, CreateVolume, Destroy, DestroyVolume, Get, List, SetMetadata, Start, Stop,
    };
    let rows: Vec<(Action, u16, String, &str)> = vec![
        // 400: a bug of ours.
        (Stop, 400, error("invalid_argument: body must be an object"), "Invalid"),
        (Create, 400, error("invalid config.image"), "Invalid"),
        (Get, 400, String::new(), "Invalid"),
        // 401 and 403.
        (List, 401, error("Authenticate: token validation error"), "Token"),
        (Create, 401, String::new(), "Token"),
        (List, 403, error("unauthorized"), "Forbidden"),
        // 402 stands in no table, and says what it is.
        (Create, 402, error("payment required"), "Limit"),
        // 404.
        (Get, 404, error("machine not found"), "NotFound"),
        (List, 404, error("app not found"), "NotFound"),
        (Start, 404, String::new(), "NotFound"),
        // 408: for a write it is open.
        (Create, 408, error("deadline_exceeded"), "Ambiguous"),
        (Start, 408, String::new(), "Ambiguous"),
        (Get, 408, error("deadline_exceeded"), "Unavailable"),
        // 409, which has many meanings.
        (
            Create,
            409,
            error(
                "already_exists: unique machine name violation, machine ID 148e21ea7d4ed8 already exists with name \"od-1\"",
            ),
            "NameTaken",
        ),
        (Create, 409, coded("name_taken", "taken"), "NameTaken"),
        (
            Stop,
            409,
            error(
                "machine ID 148e21ea7d4ed8 lease currently held by x@tokens.fly.io, expires at 2026-01-01T00:00:00Z",
            ),
            "Conflict",
        ),
        (Start, 409, error("aborted: machine update failed due to concurrent update"), "Conflict"),
        (
            Start,
            409,
            error(
                "aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request",
            ),
            "Capacity(Host)",
        ),
        (
            Create,
            409,
            error(
                "aborted: could not reserve resource for machine: insufficient memory available to fulfill request",
            ),
            "Capacity(Host)",
        ),
        (Start, 409, error("deploys to this host are temporarily disabled"), "Capacity(Host)"),
        (CreateVolume, 409, error("aborted: no capacity"), "Capacity(Volume)"),
        (DestroyVolume, 409, error("volume is attached to machine 148e21ea7d4ed8"), "Conflict"),
        // 412: not in this state; or no room, in disguise.
        (
            Start,
            412,
            error("failed_precondition: unable to start machine from current state: 'created'"),
            "NotNow",
        ),
        (Start, 412, error("unable to start machine from current state: 'replacing'"), "NotNow"),
        (Start, 412, error("machine getting replaced, refusing to start"), "NotNow"),
        (Start, 412, error("machine still active, refusing to start"), "NotNow"),
        (Create, 412, error("volume vol_1 already claimed by machine 148e21ea7d4ed8"), "NotNow"),
        (Destroy, 412, error("machine is running, use force"), "NotNow"),
        (SetMetadata, 412, error("machine version mismatch"), "NotNow"),
        (
            Create,
            412,
            error("insufficient resources to create new machine with existing volume 'vol_1'"),
            "Capacity(Volume)",
        ),
        (Create, 412, coded("volume_placement_capacity", "no room there"), "Capacity(Volume)"),
        // 422: no room in the region, a limit, or nonsense.
        (Create, 422, error("could not find a candidate host"), "Capacity(Region)"),
        (
            Create,
            422,
            coded("insufficient_capacity", "could not find a candidate host"),
            "Capacity(Region)",
        ),
        (Create, 422, coded("name_taken", "Name has already been taken"), "NameTaken"),
        (Create, 422, error("organization machine limit reached"), "Limit"),
        (Create, 422, error("To create more than one machine, add a credit card"), "Limit"),
        (Create, 422, error("invalid guest: memory_mb must be a multiple of 256"), "Invalid"),
        // 429, and the same in other clothes.
        (Create, 429, error("rate limit exceeded"), "RateLimited"),
        (Get, 429, String::new(), "RateLimited"),
        (Create, 422, error("resource_exhausted: rate limit exceeded"), "RateLimited"),
        // 5xx.
        (Create, 500, error("internal server error"), "Ambiguous"),
        (Destroy, 502, "<html><body>Bad Gateway</body></html>".into(), "Ambiguous"),
        (List, 503, String::new(), "Unavailable"),
        (Create, 504, error("could not find a candidate host"), "Ambiguous"),
        // The code outranks text and status.
        (
            Start,
            409,
            coded("insufficient_capacity", "lease currently held by x"),
            "Capacity(Region)",
        ),
        (
            Start,
            409,
            coded("insufficient_capacity", "could not reserve resource for machine"),
            "Capacity(Host)",
        ),
        (Create, 500, coded("insufficient_capacity", "try elsewhere"), "Capacity(Region)"),
        (
            Create,
            409,
            coded("volume_placement_capacity", "could not find a candidate host"),
            "Capacity(Volume)",
        ),
        // No code: the word that says that there is none, and the other shape of errors.
        (Create, 422, coded("unknown", "could not find a candidate host"), "Capacity(Region)"),
        (
            Stop,
            409,
            json!({"status": "error", "message": "lease currently held"}).to_string(),
            "Conflict",
        ),
        // What is not followed, and what nobody has seen.
        (Get, 307, String::new(), "Unavailable"),
        (Create, 418, error("teapot"), "Invalid"),
        (Create, 600, String::new(), "Ambiguous"),
    ];
    for (action, status, body, expected) in rows {
        assert_eq!(kind(&told(action, status, &body)), expected, "{action:?} {status} {body}");
    }
}

#[test]
fn the_id_of_who_has_the_name_is_taken_out_of_the_text() {
    let id = |text: &str| match told(Action::Create, 409, &error(text)) {
        ApiError::NameTaken { id, .. } => id,
        other => panic!("{other:?}"),
    };
    let text = "already_exists: unique machine name violation, machine ID 148e21ea7d4ed8 already exists with name \"od-1\"";
    assert_eq!(id(text).as_deref(), Some("148e21ea7d4ed8"));
    assert_eq!(id("unique machine name violation"), None);
    assert_eq!(id("unique machine name violation, machine ID , already"), None);
}

#[test]
fn a_404_of_somebody_between_us_and_fly_is_no_proof() {
    let page = b"<html>404 Not Found</html>";
    let nobody = AnswerHeaders::default();
    assert_eq!(kind(&classify(Action::Get, 404, &nobody, page)), "Unavailable");
    assert_eq!(kind(&classify(Action::Destroy, 404, &nobody, b"")), "Ambiguous");
    let body = error("machine not found");
    assert_eq!(kind(&classify(Action::Get, 404, &nobody, body.as_bytes())), "NotFound");
    assert_eq!(kind(&told(Action::Get, 404, "<html>")), "NotFound");
}

#[test]
fn how_long_to_wait_is_kept_where_it_was_said() {
    let after = Some(Duration::from_secs(7));
    let headers = AnswerHeaders { retry_after: after, ..AnswerHeaders::default() };
    let error = classify(Action::Create, 429, &headers, b"");
    assert!(matches!(error, ApiError::RateLimited { after: it, .. } if it == after), "{error:?}");
}

#[test]
fn every_refusal_names_what_was_tried_what_was_said_and_the_mend() {
    let texts: Vec<String> = [
        told(Action::List, 401, &error("Authenticate: token validation error")),
        told(Action::Create, 403, &error("unauthorized")),
        told(Action::Events, 404, &error("machine not found")),
        told(Action::Create, 409, &error("already_exists: unique machine name violation")),
        told(Action::Stop, 409, &error("lease currently held by x@tokens.fly.io")),
        told(Action::Start, 412, &error("machine still active, refusing to start")),
        told(
            Action::Create,
            422,
            &coded("insufficient_capacity", "could not find a candidate host"),
        ),
        told(Action::Start, 409, &error("could not reserve resource for machine")),
        told(Action::Create, 412, &coded("volume_placement_capacity", "")),
        told(Action::Create, 422, &error("organization machine limit reached")),
        told(Action::Create, 422, &error("invalid guest:\n  cpus\u{1b}[31m")),
        told(Action::Get, 429, ""),
        told(Action::Create, 502, "<html><body>Bad Gateway</body></html>"),
        told(Action::App, 503, "upstream is away"),
        told(Action::App, 302, ""),
        ApiError::Ambiguous(Answer::without(Action::Create, "no answer in time")),
        ApiError::Resting {
            until: "2026-01-01T00:00:30Z".parse().unwrap(),
            why: told(Action::List, 401, "").to_string(),
            refused: true,
        },
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn what_was_said_is_one_bounded_line() {
    let long = error(&"é\n".repeat(5_000));
    let text = told(Action::Create, 400, &long).to_string();
    assert!(text.chars().count() < 400 && !text.contains('\n'), "{text}");
    let odd = json!({"error": {"code": 3}, "status": 7}).to_string();
    assert!(told(Action::Create, 400, &odd).to_string().contains(r#"400, {"code":3}"#));
}

//! One suite for every chat platform: the same lines do the same everywhere, with the real server.
//!
//! A scenario knows a [`Stage`] and nothing of the platform behind it. A platform joins by one
//! `stage!` line at the end. Where a platform differs by nature, its stage says so, and the scenario
//! asserts what is told instead: nothing is skipped in silence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the server runs in real time")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/fly/live.rs"]
mod cloud;
#[path = "support/console/stage.rs"]
mod console;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/discord/mod.rs"]
mod discord;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/house_of_chat.rs"]
mod house_of_chat;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/live.rs"]
mod live;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/slack/mod.rs"]
mod slack;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/teams/mod.rs"]
mod teams;

use std::collections::BTreeSet;

use house_of_chat::{ADA, EVE, House, Runtime, numbers};
use stage_of_chat::{Nature, Shown, Stage};

/// What an agent says that asks first.
const ASKS: &str = "? asks to use";
/// What an agent's last line says.
const ANSWERED: &str = "bot has answered";

async fn start_list_send_status_and_stop(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.says("/od-send bot echo one two | wc -w; pwd -P").await;
    let answer = house.reads(ANSWERED).await;
    assert!(answer.text.contains('2'), "{}", answer.text);
    let place = house.place("agents/bot").await.canonicalize().unwrap();
    assert!(answer.text.contains(place.to_str().unwrap()), "{} is {place:?}", answer.text);
    house.says("/od-list").await;
    let list = house.reads("NAME").await;
    assert!(list.text.contains("bot"), "{}", list.text);
    house.says("/od-status bot").await;
    house.reads("1 done, 0 running, 0 queued").await;
    house.says("/od-stop bot").await;
    house.is_stopped("bot", true).await;
    house.says("/od-start bot").await;
    house.is_stopped("bot", false).await;
}

async fn stop_all_is_about_this_channel_alone(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    let elsewhere = house.stage.elsewhere();
    let work = house.work.display();
    let line = format!("/od-start other --agent command {work}");
    house.stage.say(ADA, elsewhere, &line).await;
    house.is("agents/other", "there", |agent| agent["status"]["phase"] == "Idle").await;
    house.says("/od-stop --all").await;
    house.is_stopped("bot", true).await;
    house.says("/od-list").await;
    house.reads("NAME").await;
    house.is_stopped("other", false).await;
    house.says("/od-stop --all everywhere").await;
    house.is_stopped("other", true).await;
}

async fn run_jobs_and_logs(house: &mut House<impl Stage>) {
    let work = house.work.display();
    let task = "echo it\\'s \"$((6*7))\"";
    house.says(&format!("/od-run --agent command --name ok --workdir {work} {task}")).await;
    house.is_told_of("--workdir").await;
    let ok = house.reads("ok succeeded").await;
    assert!(ok.text.contains("it's 42"), "{}", ok.text);
    house.says("/od-jobs").await;
    let jobs = house.reads("Succeeded").await;
    assert!(jobs.text.contains("ok"), "{}", jobs.text);
    house.says("/od-logs ok").await;
    let twice =
        |all: &[Shown]| all.iter().filter(|shown| shown.text.contains("it's 42")).count() == 2;
    house.sees("its output once more", twice).await;
}

async fn a_job_is_cancelled_and_done_again_once(house: &mut House<impl Stage>) {
    let work = house.work.display();
    let task = "echo begun; until test -e go; do sleep 0.05; done; echo over";
    house.says(&format!("/od-run --agent command --name long --workdir {work} {task}")).await;
    house.reads("begun").await;
    house.says("/od-cancel long").await;
    let over = house.reads("long was cancelled").await;
    house.presses_or_says(&over, "Retry", "/od-retry long").await;
    house.lets_go("jobs/long-retry-1").await;
    house.reads("long-retry-1 succeeded").await;
    let is_spent = |shown: &Shown| shown.id == over.id && shown.buttons.is_empty();
    house.sees("no button for what was done again", |all| all.iter().any(is_spent)).await;
}

async fn a_turn_is_cancelled_and_said_again(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.says("echo begun; until test -e go; do sleep 0.05; done; echo over").await;
    house.reads("begun").await;
    house.says("/od-cancel bot").await;
    let over = house.reads("bot was cancelled by").await;
    house.lets_go("agents/bot").await;
    house.presses_or_says(&over, "Retry", "/od-retry bot").await;
    let again = house.reads(ANSWERED).await;
    assert!(again.text.contains("over"), "{}", again.text);
    let is_spent = |shown: &Shown| shown.id == over.id && shown.buttons.is_empty();
    house.sees("no button for what was said again", |all| all.iter().any(is_spent)).await;
}

async fn a_queue_is_answered_in_order(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.says("until test -e go; do sleep 0.05; done; echo first").await;
    house.is("agents/bot", "busy", |agent| agent["status"]["phase"] == "Busy").await;
    house.says("echo second").await;
    let waits = house.reads("queued behind 1").await;
    let wanted: &[&str] = match house.stage.nature().has_buttons {
        true => &["Interrupt", "Cancel"],
        false => &[],
    };
    assert_eq!(waits.buttons, wanted, "{waits:?}");
    house.lets_go("agents/bot").await;
    let both = |all: &[Shown]| {
        let at = |word: &str| {
            all.iter().position(|it| it.text.contains(word) && it.text.contains(ANSWERED))
        };
        matches!((at("first"), at("second")), (Some(first), Some(second)) if first < second)
    };
    house.sees("both answers, in order", both).await;
}

async fn what_streams_is_seen_before_it_ends(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.says("echo begun; until test -e go; do sleep 0.05; done; echo over").await;
    let begun = house.reads("begun").await;
    assert!(!begun.text.contains("over"), "{}", begun.text);
    house.lets_go("agents/bot").await;
    let over = house.reads(ANSWERED).await;
    assert!(over.text.contains("begun\nover"), "{}", over.text);
    assert_eq!(over.id, begun.id, "one message that is edited");
}

async fn a_request_is_allowed(house: &mut House<impl Stage>) {
    house.asker().await;
    house.says("do:ask for the first time").await;
    let asked = house.reads(ASKS).await;
    house.presses_or_says(&asked, "Once", "/od-approve bot yes").await;
    let answered = house.reads("allowed by").await;
    assert_eq!(answered.id, asked.id, "the outcome stands where it was asked");
    let over = house.reads(ANSWERED).await;
    assert!(over.text.contains("allowed") && over.buttons.is_empty(), "{over:?}");
}

async fn a_request_is_denied(house: &mut House<impl Stage>) {
    house.asker().await;
    house.says("do:ask for a second time").await;
    let asked = house.reads(ASKS).await;
    house.presses_or_says(&asked, "No", "/od-approve bot no").await;
    let answered = house.reads("denied by").await;
    assert_eq!(answered.id, asked.id, "the outcome stands where it was asked");
    let over = house.reads(ANSWERED).await;
    assert!(over.buttons.is_empty(), "{over:?}");
}

/// An hour goes by while the server is away.
async fn a_request_expires_and_that_is_a_no(house: &mut House<impl Stage>) {
    house.asker().await;
    house.says("do:ask for what nobody answers").await;
    let asked = house.reads(ASKS).await;
    house.live.kill_nine();
    house.an_hour_goes_by().await;
    house.live.up().await;
    let expired = house.reads("expired after 1 h: nobody answered, so it was no").await;
    assert_eq!(expired.id, asked.id, "the outcome stands where it was asked");
    let over = house.reads(ANSWERED).await;
    assert!(over.text.contains("denied") && over.buttons.is_empty(), "{over:?}");
}

async fn a_long_answer_is_whole_in_messages_or_in_a_file(house: &mut House<impl Stage>) {
    let work = house.work.display();
    house.says(&format!("/od-run --agent command --name long --workdir {work} seq 1 20000")).await;
    house.reads("long succeeded").await;
    let Nature { sends_files, .. } = house.stage.nature();
    let wanted: Vec<u32> = (1..=20_000).collect();
    let whole = |all: &[Shown]| match sends_files {
        true => all.iter().flat_map(|shown| &shown.files).any(|(name, bytes)| {
            name.starts_with("long") && numbers(&String::from_utf8_lossy(bytes)) == wanted
        }),
        false => {
            let all: String = all.iter().map(|shown| shown.text.clone() + "\n").collect();
            numbers(&all) == wanted
        }
    };
    let shown = house.sees("each line once, in order", whole).await;
    assert_eq!(shown.iter().any(|shown| !shown.files.is_empty()), sends_files);
    let beside = shown.iter().filter(|shown| shown.files.is_empty()).count();
    let most = 4 + usize::from(house.is_told_of("--workdir").await);
    assert!(!sends_files || beside <= most, "few messages beside the file: {beside}");
}

async fn a_file_reaches_the_agent_and_one_comes_back(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    let line = "cat \"$1\"; echo made > $OPEN_DISPATCH_ARTIFACTS/made.txt";
    let stage = &house.stage;
    stage.say_with_file(ADA, stage.channel(), line, "notes.txt", b"what stood in it\n").await;
    let answer = house.reads(ANSWERED).await;
    assert!(answer.text.contains("what stood in it"), "{}", answer.text);
    assert!(answer.text.contains("made.txt"), "what it made is named: {}", answer.text);
}

async fn a_file_that_an_agent_makes_follows_its_answer(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.says("echo what came of it > $OPEN_DISPATCH_ARTIFACTS/report.txt; echo made").await;
    let answer = house.reads(ANSWERED).await;
    assert!(answer.text.contains("report.txt"), "{}", answer.text);
    if !house.stage.nature().sends_files {
        // Whoever reads there is told where it is.
        house.reads("files/").await;
        return;
    }
    assert!(!answer.text.contains("/files/"), "no address of the server's own: {}", answer.text);
    let file = ("report.txt".to_owned(), b"what came of it\n".to_vec());
    let shown = house.sees("the file", |all| all.iter().any(|it| it.files == [file.clone()])).await;
    let at = |wanted: &dyn Fn(&Shown) -> bool| shown.iter().position(wanted);
    let (text, posted) = (at(&|it| it.id == answer.id), at(&|it| !it.files.is_empty()));
    assert!(text.is_some() && text < posted, "behind the answer: {shown:#?}");
}

async fn a_restart_in_the_middle_ends_in_one_whole_answer(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house
        .says("seq -f line-%g- 1 20; until test -e go; do sleep 0.05; done; seq -f line-%g- 21 40")
        .await;
    house.reads("line-20-").await;
    let place = house.place("agents/bot").await;
    house.live.kill_nine();
    std::fs::write(place.join("go"), "").unwrap();
    house.live.up().await;
    house.reads(ANSWERED).await;
    let shown = house.stage.shown(house.stage.channel()).await;
    let text: String = shown.iter().map(|shown| shown.text.clone() + "\n").collect();
    for n in 1..=40 {
        assert_eq!(text.matches(&format!("line-{n}-")).count(), 1, "line {n} in {text}");
    }
    assert_eq!(text.matches(ANSWERED).count(), 1, "{text}");
}

async fn what_is_said_after_a_restart_is_heard(house: &mut House<impl Stage>) {
    house.shell("bot").await;
    house.live.kill_nine();
    house.live.up().await;
    house.says("echo still there").await;
    let answer = house.reads(ANSWERED).await;
    assert!(answer.text.contains("still there"), "{}", answer.text);
}

async fn nonsense_gets_one_clear_answer(house: &mut House<impl Stage>) {
    house.says("/od-stat bot").await;
    house.reads("/od-stat is no command; did you mean").await;
    house.says("/od-run --name \"open").await;
    house.reads("the quote behind").await;
    house.says("/od-status nobody").await;
    house.reads("nobody").await;
    let deliveries = house.live.get("deliveries").await;
    assert_eq!(deliveries["kind"], "DeliveryList", "{deliveries}");
}

async fn a_stranger_commands_nothing(house: &mut House<impl Stage>) {
    if !house.stage.nature().has_strangers {
        // Whoever comes here holds the server's token, and is told so.
        house.stage.say(EVE, house.stage.channel(), "/od-whoami").await;
        house.reads("Whoever holds this server's token may do everything here").await;
        return;
    }
    house.asker().await;
    house.says("do:ask for the first time").await;
    let asked = house.reads(ASKS).await;
    let (stage, channel) = (&house.stage, house.stage.channel());
    let work = house.work.display();
    stage.say(EVE, channel, &format!("/od-start evil --agent command {work}")).await;
    let told = house.reads("Nobody has let you in yet").await;
    house.is_for_eve(&told);
    // Again, and by a button: there is one code, and nothing is done.
    stage.say(EVE, channel, &format!("/od-run --agent command --workdir {work} touch evil")).await;
    if stage.nature().has_buttons {
        stage.press(EVE, channel, &asked.id, "Once").await;
    }
    house.says("/od-approve bot no").await;
    house.reads("denied by").await;
    house.says("/od-whoami").await;
    house.reads("The server's configuration makes you an admin").await;
    let shown = stage.shown(channel).await;
    let codes: BTreeSet<&str> = shown.iter().filter_map(|it| code(&it.text)).collect();
    assert_eq!(codes.len(), 1, "{shown:#?}");
    let jobs = house.live.get("jobs").await;
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(0), "{jobs}");
    assert_eq!(house.live.get("agents/evil").await["code"], 404);
    house.nobody_worked_but("agents/bot").await;
}

async fn a_stranger_is_let_in_step_by_step(house: &mut House<impl Stage>) {
    if !house.stage.nature().has_strangers {
        // There is nobody to let in, and nobody waits.
        house.stage.say(EVE, house.stage.channel(), "/od-list").await;
        house.sees("an answer", |all| !all.is_empty()).await;
        let waiting = house.live.get("access/pairings").await;
        assert_eq!(waiting["items"].as_array().map(Vec::len), Some(0), "{waiting}");
        return;
    }
    house.shell("bot").await;
    let (stage, channel) = (&house.stage, house.stage.channel());
    stage.say(EVE, channel, "/od-list").await;
    let told = house.reads("Nobody has let you in yet").await;
    house.is_for_eve(&told);
    let code = code(&told.text).unwrap_or_else(|| panic!("no code in {told:?}")).to_owned();
    house.types(&["access", "approve", &code]).await;
    let welcome = house.reads("You were let in, as user").await;
    house.is_for_eve(&welcome);
    // A user talks, and does not command.
    stage.say(EVE, channel, "echo hello from eve").await;
    let answer = house.reads(ANSWERED).await;
    assert!(answer.text.contains("hello from eve"), "{}", answer.text);
    stage.say(EVE, channel, "/od-stop bot").await;
    let refused = house.reads("/od-stop needs an operator").await;
    house.is_for_eve(&refused);
    house.is_stopped("bot", false).await;
    let eve = format!("{}:{}", stage.name(), stage.user(EVE));
    house.types(&["access", "grant", &eve, "operator"]).await;
    stage.say(EVE, channel, "/od-stop bot").await;
    house.is_stopped("bot", true).await;
    // Who, where, what, and what became of it.
    let audit = house.live.get("audit").await;
    let place = format!("{}/{}", stage.name(), stage.place(channel));
    let rows = audit["items"].as_array().unwrap();
    let of_eve: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| {
            row["who"] == *eve && row["where"].as_str().unwrap_or_default().starts_with(&place)
        })
        .map(|row| (row["what"].as_str().unwrap(), row["outcome"].as_str().unwrap()))
        .collect();
    let wanted = [
        ("ask to be let in", "pairing"),
        ("say something (agent/bot)", "allowed"),
        ("stop bot", "refused"),
        ("stop bot", "allowed"),
    ];
    assert_eq!(of_eve, wanted, "{audit:#}");
}

/// The pairing code in what a stranger is told.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("open-dispatch access approve ")?;
    rest.get(..8)
}

/// The suite on one platform: with agents beside the server, and with each in a machine of its own.
macro_rules! stage {
    ($module:ident, $stage:expr) => {
        mod $module {
            use super::*;

            stage!(@suite $stage, Runtime::Local);

            mod in_machines {
                use super::*;

                stage!(@suite $stage, Runtime::Fly);
            }
        }
    };
    (@suite $stage:expr, $runtime:expr) => {
        stage!(@test $stage, $runtime, start_list_send_status_and_stop);
        stage!(@test $stage, $runtime, stop_all_is_about_this_channel_alone);
        stage!(@test $stage, $runtime, run_jobs_and_logs);
        stage!(@test $stage, $runtime, a_job_is_cancelled_and_done_again_once);
        stage!(@test $stage, $runtime, a_turn_is_cancelled_and_said_again);
        stage!(@test $stage, $runtime, a_queue_is_answered_in_order);
        stage!(@test $stage, $runtime, what_streams_is_seen_before_it_ends);
        stage!(@test $stage, $runtime, a_request_is_allowed);
        stage!(@test $stage, $runtime, a_request_is_denied);
        stage!(@test $stage, $runtime, a_request_expires_and_that_is_a_no);
        stage!(@test $stage, $runtime, a_long_answer_is_whole_in_messages_or_in_a_file);
        stage!(@test $stage, $runtime, a_file_reaches_the_agent_and_one_comes_back);
        stage!(@test $stage, $runtime, a_file_that_an_agent_makes_follows_its_answer);
        stage!(@test $stage, $runtime, a_restart_in_the_middle_ends_in_one_whole_answer);
        stage!(@test $stage, $runtime, what_is_said_after_a_restart_is_heard);
        stage!(@test $stage, $runtime, nonsense_gets_one_clear_answer);
        stage!(@test $stage, $runtime, a_stranger_commands_nothing);
        stage!(@test $stage, $runtime, a_stranger_is_let_in_step_by_step);
    };
    (@test $stage:expr, $runtime:expr, $scenario:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $scenario() {
            let mut house = House::open($stage, $runtime).await;
            crate::$scenario(&mut house).await;
            house.was_as_declared().await;
        }
    };
}

stage!(on_console, async |data: &std::path::Path| console::ConsoleStage::new(data));
stage!(on_slack, async |_: &std::path::Path| slack::FakeSlack::start().await);
stage!(on_discord, async |_: &std::path::Path| discord::Discord::open().await);
stage!(on_teams, async |_: &std::path::Path| teams::Fake::start().await);
stage!(on_teams_alone, async |_: &std::path::Path| {
    teams::stage::Alone(teams::Fake::start().await)
});

//! The pace: Teams' published limits are kept, so that none of our calls has to be refused.

use super::{
    streams::{known, place},
    teams::limits::Limits,
    *,
};
use open_dispatch::chat::platform::{Content, Error, Nonce, Platform as _, Post};

fn calls(fake: &Fake) -> usize {
    let state = fake.state();
    state.posts + state.edits
}

fn refused(fake: &Fake) -> usize {
    fake.state().too_many
}

#[tokio::test]
async fn a_busy_conversation_is_answered_in_order_and_within_the_published_limits() {
    let (fake, store) = (Fake::start().await, store());
    fake.state().limits = Some(Limits::default());
    let server = Server::start(&fake, &store).await;
    let mut said = Vec::new();
    for _ in 0..7 {
        said.push(fake.say("Ada", DM, "/od-help").await);
        fake.say("Ada", GROUP, "od-list").await;
    }
    all_shown(&fake, &store).await;
    let answered = fake.shown(DM).into_iter().map(|message| message.reply_to.unwrap());
    assert_eq!(answered.collect::<Vec<_>>(), said, "each once, and in their order");
    assert!(fake.shown(DM).iter().all(|message| message.text.contains("od-run")));
    assert_eq!(fake.shown(GROUP).len(), 7);
    assert_eq!((calls(&fake) >= 28, refused(&fake)), (true, 0), "nothing is asked too early");
    server.end().await;
}

#[tokio::test]
async fn frames_stand_back_and_what_ends_an_answer_comes_through() {
    let (fake, server) = known().await;
    fake.state().limits = Some(Limits::default());
    let nonce = Nonce { delivery: "by-hand".to_owned(), index: 0 };
    let post = Post { conversation: &place(GROUP), reply_to: None, text: "…", nonce: &nonce };
    let id = server.teams.post(&post).await.unwrap();
    let mut held_back = 0;
    for n in 0..20 {
        let frame = Content::from(format!("frame {n}").as_str());
        match server.teams.grow(&place(GROUP), &id, &frame, 0).await {
            Ok(()) => {}
            Err(Error::RateLimited(wait)) => held_back += usize::from(!wait.is_zero()),
            Err(error) => panic!("{error}"),
        }
    }
    assert!((15..20).contains(&held_back), "{held_back}");
    server.teams.edit(&place(GROUP), &id, &Content::from("the end"), true).await.unwrap();
    assert_eq!(fake.shown(GROUP).last().unwrap().text, "the end");
    // Nor does a refusal of one call let another one try.
    fake.state().edit_faults.push_back(Fault::RateLimit(30));
    let end = Content::from("the very end");
    let told = server.teams.edit(&place(GROUP), &id, &end, true).await;
    assert_eq!(told, Err(Error::RateLimited(Duration::from_secs(30))));
    let asked = calls(&fake);
    let nonce = Nonce { delivery: "by-hand".to_owned(), index: 1 };
    let post = Post { nonce: &nonce, ..post };
    let Err(Error::RateLimited(wait)) = server.teams.post(&post).await else { panic!() };
    assert!(wait > Duration::from_secs(20), "{wait:?}");
    assert_eq!((calls(&fake), refused(&fake)), (asked, 0));
    server.end().await;
}

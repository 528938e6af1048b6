//! What every driver of a conversation can do, as claims that each of them is held against with
//! its real CLI and a model API on loopback.
//!
//! A test file makes a [`Candidate`] and says `driver_suite::claims!(Name)`; each claim then is
//! a test of its own. What a CLI cannot do by its nature stands in [`Can`], and only there.

#[path = "../support/desk.rs"]
pub mod desk;
#[path = "../support/fake_model/mod.rs"]
pub mod fake_model;

mod asks;
mod ends;
mod talks;

pub use asks::*;
use desk::Desk;
pub use ends::*;
use fake_model::FakeModel;
pub use talks::*;

/// A driver with its CLI.
pub trait Candidate {
    /// A desk at which the CLI asks this model, with few tries again; none where the CLI is not
    /// installed.
    fn desk(&self, model: &FakeModel) -> Option<Desk>;

    /// What the CLI can do.
    fn can(&self) -> Can;

    /// Whether the CLI itself shortens what a tool prints before its model sees it. Where it does
    /// not, the turn fails for want of room, and says so.
    fn shortens_output(&self) -> bool {
        true
    }
}

/// What a CLI can do, and how it names things.
#[derive(Debug, Clone, Copy)]
pub struct Can {
    /// Whether it tells that it asks the model API again.
    pub tell_retries: bool,
    /// Whether a person's words to a refusal reach the model.
    pub hear_reasons: bool,
    /// Whether it counts tokens.
    pub count: bool,
    /// Whether it tells what a turn has used before it ends.
    pub count_within: bool,
    /// Whether it tells edits from other tools, so that `acceptEdits` asks about the others.
    pub accept_edits: bool,
    /// Whether it has a mode in which it only plans.
    pub plan: bool,
    /// A rule of `allow` by which commands that begin with `python3 -c` pass unasked.
    pub allow_python: Option<&'static str>,
    /// An id like its own of a session that never was.
    pub gone_session: &'static str,
    /// What a message on a refused key (401) says at least, so that a person knows the mend.
    pub key_mend: &'static str,
}

/// A desk and its model, or the end of the test where the CLI is not installed.
macro_rules! seated {
    ($candidate:expr) => {{
        let model = crate::driver_suite::fake_model::FakeModel::start().await;
        let Some(desk) = $candidate.desk(&model) else { return };
        (desk, model)
    }};
}
use seated;

/// Makes a test of each claim for a candidate.
macro_rules! claims {
    ($candidate:expr) => {
        crate::driver_suite::claims! { $candidate =>
            text_streams
            thinking_is_told_apart_from_speech
            a_tool_has_a_title_and_an_end
            the_second_turn_remembers_the_first
            another_driver_with_the_session_remembers
            a_session_that_is_gone_is_said_and_a_new_one_answers
            a_prompt_of_odd_bytes_arrives_as_it_is
            a_long_prompt_arrives_whole
            a_prompt_that_looks_like_a_command_gets_one_end
            two_mebibytes_of_text_arrive_whole
            a_tool_that_prints_twenty_megabytes_in_one_line_is_borne
            a_failing_api_fails_the_turn_with_its_mend_and_the_next_one_works
            an_api_that_fails_once_is_asked_again
            what_a_turn_used_is_its_own_share
            what_a_turn_has_used_is_told_before_it_ends
            a_person_allows_and_denies
            an_interrupt_withdraws_what_was_asked
            bypass_asks_nothing
            accept_edits_asks_about_commands_alone
            a_plan_changes_nothing
            allow_rules_pass_unasked_and_the_rest_is_asked
            a_cancel_in_the_middle_of_text_ends_the_turn_and_no_more
            a_cancel_in_a_tool_ends_the_tool
            a_cancel_right_behind_the_prompt_cancels
            a_cancel_while_the_model_hangs_ends_the_turn
            a_job_ends_with_its_task
            a_stop_while_idle_leaves_nothing
            a_stop_while_a_tool_runs_leaves_nothing
            a_stop_while_a_person_is_asked_withdraws_the_request
            a_session_outlives_a_kill_in_mid_turn
            a_cli_that_is_killed_in_mid_turn_ends_it_once
            a_tree_that_is_killed_leaves_nothing
        }
    };
    ($candidate:expr => $($claim:ident)+) => {
        $(
            #[tokio::test]
            async fn $claim() {
                crate::driver_suite::$claim(&$candidate).await;
            }
        )+
    };
}
pub(crate) use claims;

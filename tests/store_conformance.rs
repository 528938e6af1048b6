//! Every back end of the store does the same: the suite of `support/store_suite.rs`, on each.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/store_fixtures.rs"]
mod fixtures;
#[path = "support/store_suite.rs"]
mod suite;

/// Runs every claim of the suite on every back end.
macro_rules! conformance {
    ($($claim:ident)*) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $claim() {
                    super::suite::$claim(open_dispatch::store::memory::MemoryStore::new()).await;
                }
            )*
        }

        mod sqlite {
            use open_dispatch::{ambient::Ambient, store::sqlite::SqliteStore};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    let dir = tempfile::tempdir().unwrap();
                    let store = SqliteStore::open(dir.path(), Ambient::real()).await.unwrap();
                    super::suite::$claim(store.clone()).await;
                    store.close().await;
                }
            )*
        }

        #[test]
        fn every_claim_of_the_suite_is_run() {
            let run = [$(stringify!($claim)),*];
            for line in include_str!("support/store_suite.rs").lines() {
                if let Some(claim) = line.strip_prefix("pub async fn ") {
                    let name = claim.split('(').next().unwrap_or_default();
                    assert!(run.contains(&name), "{name} is not listed");
                }
            }
        }
    };
}

conformance! {
    a_created_object_gets_what_the_store_sets
    a_name_and_a_uid_are_taken_once
    a_write_takes_only_its_part
    labels_alone_raise_no_generation
    a_stale_write_is_refused
    a_namesake_is_not_mistaken_for_the_object
    what_is_not_there_cannot_be_written_or_deleted
    one_transaction_writes_several_parts_of_what_was_read_once
    a_created_object_can_be_written_in_the_same_transaction
    what_comes_and_goes_in_one_transaction_leaves_no_trace
    an_object_replaced_in_one_transaction_is_shown_as_gone_and_new
    an_object_without_finalizers_goes_at_once
    an_object_with_finalizers_goes_with_the_last_of_them
    a_delete_can_ask_for_a_version
    a_status_patch_merges
    a_status_patch_yields_to_what_stands_there
    a_status_patch_for_what_is_gone_is_without_effect
    a_status_patch_that_does_not_fit_is_refused
    one_operation_that_fails_undoes_all
    a_write_that_changes_nothing_leaves_no_trace
    bells_ring_for_what_a_commit_touched
    many_writers_lose_no_update_and_revisions_come_in_order
    lists_come_by_name_and_page_by_page
    owned_objects_are_found_by_their_controller
    a_list_is_true_at_its_revision
    history_shows_what_happened_in_order
    a_revision_that_never_was_is_told
    a_watch_resumes_and_goes_on
    a_watch_that_lags_misses_nothing
    a_quiet_watch_says_each_minute_where_it_stands
    a_watch_from_forgotten_history_ends_with_an_error
    history_goes_when_it_is_old_and_long
    receipts_and_events_and_deliveries_go_with_time
    the_ledgers_of_what_is_gone_follow_after_an_hour
    a_long_ledger_goes_whole
    a_request_is_taken_once
    output_must_follow_what_is_held
    a_gap_stands_for_what_is_missing
    nothing_follows_an_exit
    a_new_run_begins_at_one_and_ends_the_old_one
    output_is_read_from_any_place
    an_order_is_given_once
    an_acknowledgement_only_rises_and_never_past_the_end
    turns_queue_up_by_agent
    a_turn_moves_only_from_where_it_stands
    a_wish_to_cancel_is_lost_to_nobody_who_read_before
    an_agents_turns_are_summed_up
    a_clock_that_was_set_back_leaves_no_turn_in_the_time_to_come
    turns_that_have_not_ended_are_found_and_the_last_come_first
    who_needs_an_empty_queue_yields_to_whoever_spoke
    old_turns_of_a_living_agent_go_and_their_sums_stay
    of_a_long_life_the_newest_output_stays_and_a_gap_tells_the_rest
    a_run_that_was_trimmed_has_still_ended_where_it_did
    what_a_turn_or_a_delivery_needs_stays_longer
    of_a_long_life_the_newest_approvals_and_orders_stay
    a_grant_stands_until_it_is_revoked
    a_role_stands_until_it_is_taken_and_guards_what_is_done_by_it
    strangers_wait_once_each_for_an_hour_and_few_at_a_time
    what_people_asked_for_is_numbered_and_goes_with_time
    the_audit_keeps_its_newest_rows
    a_place_is_what_was_written_last
    the_answers_to_a_question_stand_with_it
    a_changed_annotation_is_news_to_controllers
    an_approval_is_resolved_once
    an_approval_keeps_how_much_was_held_when_it_was_resolved
    a_delivery_is_written_by_one_at_a_time
    a_delivery_waits_for_the_last_bare_one_in_front_of_it_in_its_conversation
    events_count_up_and_come_oldest_first
    the_events_of_all_come_in_the_order_in_which_they_were_made
    a_backoff_is_kept_until_it_is_forgotten
    text_of_any_kind_survives
    an_empty_transaction_is_answered
}

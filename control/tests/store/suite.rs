//! The tests. Each is given a store of its own.

pub(crate) mod bounds;
pub(crate) mod conditions;
pub(crate) mod leases;
pub(crate) mod lists;
pub(crate) mod races;
pub(crate) mod revisions;
pub(crate) mod watches;

/// Runs every test on a kind of store. `timed` and `threaded` are the attributes under which a test that
/// lets time pass runs, and one in which many do something at once.
macro_rules! conformance {
    ($subject:path, timed: $timed:meta, threaded: $threaded:meta) => {
        $crate::suite::run! { $subject, $timed,
            revisions {
                a_commit_that_changes_something_makes_the_next_revision
                a_commit_that_changes_nothing_makes_no_revision
                an_entry_tells_in_which_revision_it_was_created_and_put_last
                all_writes_of_a_transaction_are_of_one_revision
                the_same_value_again_is_a_change
            }
            lists {
                a_list_has_its_prefix_only_in_the_order_of_the_keys
                several_keys_are_read_at_once_and_in_the_order_in_which_they_are_asked_for
                a_page_ends_where_it_is_to_and_says_whether_there_is_more
                pages_of_one_list_fit_together_while_others_write
                a_past_revision_is_listed_as_it_was
                a_revision_that_has_not_happened_yet_cannot_be_listed
                a_revision_that_is_forgotten_cannot_be_listed
                unusual_characters_are_kept_and_ordered_by_their_bytes
            }
            conditions {
                each_condition_holds_when_its_sentence_does
                a_transaction_happens_only_if_all_conditions_hold
                a_refused_transaction_changes_nothing_and_tells_what_is_there
                conditions_see_what_was_there_before_the_transaction
            }
            leases {
                an_entry_goes_when_its_lease_ends_and_not_before
                a_lease_that_is_renewed_does_not_end
                all_entries_of_a_lease_go_in_one_revision_and_watchers_hear_it
                an_entry_put_again_without_its_lease_stays
                an_entry_put_again_with_another_lease_goes_with_that
                a_lease_that_has_ended_can_be_neither_renewed_nor_put_with
                a_transaction_with_an_ended_lease_changes_nothing_at_all
                a_refused_transaction_does_not_mind_an_ended_lease
                a_revoked_lease_takes_its_entries_and_revoking_it_again_is_no_error
                a_deleted_entry_leaves_its_lease
                a_lease_without_entries_ends_without_a_revision
                leases_have_ids_of_their_own
            }
            watches {
                a_watch_hears_what_follows_and_nothing_before
                a_watch_from_the_past_hears_what_has_happened_since
                a_watch_of_a_prefix_hears_nothing_else
                a_watch_between_two_keys_hears_what_is_from_one_on_and_before_the_other
                a_revision_is_heard_at_once_in_the_order_of_the_keys
                a_watch_hears_of_entries_as_they_were_put
                a_watch_from_a_forgotten_revision_is_refused
                a_watch_from_a_revision_that_has_not_happened_yet_is_refused
                a_watch_with_a_long_past_behind_it_hears_all_of_it
                a_watcher_that_does_not_listen_is_ended_and_stops_no_commit
                a_list_and_a_watch_from_its_revision_miss_nothing
            }
            bounds {
                keys_are_held_to_their_bounds
                prefixes_are_held_to_their_bounds
                values_are_held_to_their_bounds
                transactions_are_held_to_their_bounds
                a_key_is_written_once_in_a_transaction
                pages_are_held_to_their_bounds
                leases_are_held_to_their_bounds
            }
        }
        $crate::suite::run! { $subject, $threaded,
            races {
                of_two_who_place_a_key_at_once_exactly_one_wins
                counters_that_many_count_up_at_once_lose_nothing
                watchers_miss_nothing_of_what_many_write_at_once
                pages_of_one_list_fit_together_while_many_write
            }
        }
    };
}

/// Makes a test of each function of a topic.
macro_rules! run {
    ($subject:path, $attribute:meta, $($topic:ident { $($test:ident)* })*) => {$(
        mod $topic {$(
            #[$attribute]
            async fn $test() {
                let subject = <$subject as $crate::subject::Subject>::fresh().await;
                $crate::suite::$topic::$test(subject).await;
            }
        )*}
    )*};
}

pub(crate) use {conformance, run};

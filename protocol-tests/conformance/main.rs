//! The same cases on the sandbox and on real Kafka: what a test may believe of the sandbox is what these confirm.

#[path = "../kafka/mod.rs"]
mod kafka;

mod batches;
mod broker;
mod client;
mod clients;
mod fetch;
mod idempotence;
mod produce;
mod topics;
mod transactions;

/// Makes a test of each case for each broker.
macro_rules! cases {
    ($($module:ident { $($case:ident,)+ })+) => {
        tests! { sandbox (Broker::Sandbox) []; $($module { $($case,)+ })+ }
        tests! { kafka_4 (Broker::Kafka(Version::V4)) [ignore]; $($module { $($case,)+ })+ }
        tests! { kafka_3 (Broker::Kafka(Version::V3)) [ignore]; $($module { $($case,)+ })+ }
        tests! { kafka_2 (Broker::Kafka(Version::V2)) [ignore]; $($module { $($case,)+ })+ }
    };
}

macro_rules! tests {
    ($name:ident $broker:tt $ignore:tt; $($module:ident { $($case:ident,)+ })+) => {
        mod $name {
            $(mod $module {
                #[allow(unused_imports, reason = "the sandbox has no version")]
                use crate::{broker::{Broker, Case}, kafka::Version, $module as cases};

                $(tests! { $module $case $broker $ignore })+
            })+
        }
    };
    ($module:ident $case:ident $broker:tt []) => {
        #[test]
        fn $case() {
            cases::$case(&mut Case::on($broker, concat!(stringify!($module), ".", stringify!($case))));
        }
    };
    ($module:ident $case:ident $broker:tt [ignore]) => {
        #[test]
        #[ignore = "needs Apache Kafka (Java 17 and Maven)"]
        fn $case() {
            cases::$case(&mut Case::on($broker, concat!(stringify!($module), ".", stringify!($case))));
        }
    };
}

cases! {
    produce {
        a_dense_batch_is_appended_at_the_end,
        every_codec_is_stored_as_it_came,
        a_base_offset_other_than_zero_is_refused,
        gaps_between_offsets_are_refused,
        a_batch_without_records_is_refused,
        a_wrong_record_count_is_refused,
        control_batches_are_refused,
        transactional_batches_need_a_transactional_id,
        two_batches_for_a_partition_are_refused,
        bytes_after_a_batch_are_dropped_in_silence,
        no_batch_at_all_is_refused,
        a_wrong_crc_is_refused,
        zstd_needs_a_new_enough_request,
        a_batch_may_have_the_maximum_size_and_no_byte_more,
        a_compacted_topic_takes_no_record_without_a_key,
        the_delete_horizon_bit_is_stored,
        the_leader_epoch_is_the_brokers,
        a_wrong_maximum_timestamp_is_put_right,
        a_log_append_time_topic_stamps_and_takes_no_stamp,
        an_unknown_topic_is_refused,
        acks_are_none_one_or_all,
    }
    idempotence {
        a_repeated_batch_is_answered_with_its_first_offset,
        a_batch_older_than_the_last_five_is_out_of_order,
        a_gap_in_the_sequence_is_out_of_order,
        an_unknown_producer_may_begin_anywhere,
        a_higher_epoch_begins_at_zero_and_fences_the_lower,
        sequences_wrap_to_zero,
    }
    transactions {
        an_open_transaction_holds_the_last_stable_offset,
        an_aborted_transaction_is_delivered_and_listed,
        a_marker_is_a_small_control_batch,
        plain_batches_do_not_mix_with_the_producers_open_transaction,
        a_transaction_without_records_writes_its_marker,
        the_marker_of_a_newer_epoch_fences_older_ones,
    }
    fetch {
        an_offset_within_a_batch_returns_the_whole_batch,
        the_first_batch_comes_whole_and_others_may_be_cut,
        offsets_outside_of_the_log_are_out_of_range,
        a_fetch_at_the_end_waits_for_its_time,
        a_leader_epoch_from_the_future_is_unknown,
        deleted_records_move_the_start_into_a_batch,
        a_timestamp_finds_the_first_record_as_late,
        a_session_returns_only_what_has_changed,
        an_unknown_session_and_a_wrong_epoch_are_refused,
    }
    topics {
        a_topic_is_created_once,
        impossible_topics_are_not_created,
        unknown_and_wrong_configs_are_refused,
        partitions_only_grow,
        a_config_says_who_set_it,
        metadata_tells_leader_and_epoch_and_who_is_unknown,
        an_unknown_version_of_api_versions_is_answered_in_the_oldest,
    }
}

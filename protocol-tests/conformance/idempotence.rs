//! Sequence numbers: the lock that keeps a copy from repeating anything.

use kferry::protocol::error_code::ErrorCode;

use crate::batches::stamped;
use crate::broker::Case;

#[track_caller]
fn assert_appended(case: &mut Case, batch: &[u8], base_offset: i64) {
    let answer = case.produce(batch);
    assert_eq!(
        (ErrorCode::from_wire(answer.error_code), answer.base_offset),
        (ErrorCode::None, base_offset)
    );
}

#[track_caller]
fn assert_refused(case: &mut Case, batch: &[u8], error: ErrorCode) {
    let end = case.offset_at(-1, false);
    assert_eq!(ErrorCode::from_wire(case.produce(batch).error_code), error);
    assert_eq!(case.offset_at(-1, false), end);
}

pub(crate) fn a_repeated_batch_is_answered_with_its_first_offset(case: &mut Case) {
    case.create_topic(&[]);
    let producer = case.init_producer_id(None);
    let batches: Vec<_> = (0..5).map(|number| stamped(producer, number * 2, 2)).collect();
    for (batch, base_offset) in batches.iter().zip((0..).step_by(2)) {
        assert_appended(case, batch, base_offset);
    }

    for (batch, base_offset) in batches.iter().zip((0..).step_by(2)) {
        let answer = case.produce(batch);
        assert_eq!((answer.error_code, answer.base_offset), (0, base_offset));
        assert!(
            answer.log_append_time_ms >= 0,
            "a time on a CreateTime topic tells a repetition"
        );
    }
    assert_eq!(case.offset_at(-1, false), 10);
}

pub(crate) fn a_batch_older_than_the_last_five_is_out_of_order(case: &mut Case) {
    case.create_topic(&[]);
    let producer = case.init_producer_id(None);
    for number in 0..6 {
        assert_appended(case, &stamped(producer, number, 1), number.into());
    }
    assert_refused(case, &stamped(producer, 0, 1), ErrorCode::OutOfOrderSequenceNumber);
}

pub(crate) fn a_gap_in_the_sequence_is_out_of_order(case: &mut Case) {
    case.create_topic(&[]);
    let producer = case.init_producer_id(None);
    assert_appended(case, &stamped(producer, 0, 2), 0);

    for sequence in [1, 3, 100] {
        assert_refused(
            case,
            &stamped(producer, sequence, 1),
            ErrorCode::OutOfOrderSequenceNumber,
        );
    }
    assert_appended(case, &stamped(producer, 2, 1), 2);
}

pub(crate) fn an_unknown_producer_may_begin_anywhere(case: &mut Case) {
    case.create_topic(&[]);
    let nobodys = (1 << 40, 3);
    assert_appended(case, &stamped(nobodys, 7, 1), 0);
    assert_appended(case, &stamped(nobodys, 8, 1), 1);
}

pub(crate) fn a_higher_epoch_begins_at_zero_and_fences_the_lower(case: &mut Case) {
    case.create_topic(&[]);
    let (id, epoch) = case.init_producer_id(None);
    assert_appended(case, &stamped((id, epoch), 0, 2), 0);

    assert_refused(
        case,
        &stamped((id, epoch + 1), 2, 1),
        ErrorCode::OutOfOrderSequenceNumber,
    );
    assert_appended(case, &stamped((id, epoch + 1), 0, 1), 2);
    assert_refused(case, &stamped((id, epoch), 2, 1), ErrorCode::InvalidProducerEpoch);
}

pub(crate) fn sequences_wrap_to_zero(case: &mut Case) {
    case.create_topic(&[]);
    let producer = case.init_producer_id(None);
    assert_appended(case, &stamped(producer, i32::MAX - 1, 5), 0); // MAX-1, MAX, 0, 1, 2
    assert_appended(case, &stamped(producer, 3, 1), 5);
}

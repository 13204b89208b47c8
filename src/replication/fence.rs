//! The fence: an empty transaction under the lane's transactional id, whose markers raise the producer's epoch on each
//! partition. From then on its leader refuses what an older incarnation sends, late or not.
//!
//! Pure: [`Fence::poll`] says which request is due, `handle_*` takes its answer. The requests are InitProducerId,
//! AddPartitionsToTxn (version 3 or lower) and EndTxn (4 or lower, so that the marker carries the epoch that was given
//! out). EndTxn answers before the markers are written: it is repeated until it says NONE for the second time, which
//! only a transaction that is complete does. A fence counts for a partition when *its* leader shows the epoch; that is
//! for the caller to ask.
//!
//! A request without an answer is sent again: each of them does no harm twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::protocol::error_code::ErrorCode;

/// Requests of one fence, all told. Markers are written within some hundred milliseconds; a coordinator that moves takes
/// seconds.
const MAX_REQUESTS: u32 = 120;

const WAIT_MIN: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceStep {
    Wait(Duration),
    FindCoordinator,
    InitProducerId,
    AddPartitions {
        producer: (i64, i16),
        partitions: Vec<usize>,
    },
    EndTxn {
        producer: (i64, i16),
    },
    Done(FenceEnd),
}

/// What a fence came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceEnd {
    /// These partitions' markers are written, as far as the coordinator knows.
    Fenced {
        producer: (i64, i16),
        partitions: Vec<usize>,
    },
    /// We may not use the transactional id, or the broker does not offer it.
    NotAllowed(ErrorCode),
    /// Somebody else has raised the epoch meanwhile: who owns the lane has to be asked.
    Overtaken,
    /// It can be tried again later.
    Failed(String),
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceTrouble {
    Refused(ErrorCode),
    /// The broker does not offer the API.
    Unsupported,
    /// No answer: it may have been carried out.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Initialize,
    Add,
    End { answered: bool },
}

/// One fence on its way.
#[derive(Debug)]
pub struct Fence {
    partitions: BTreeSet<usize>,
    stage: Stage,
    has_coordinator: bool,
    producer: (i64, i16),
    requests: u32,
    failures: u32,
    wait: bool,
    end: Option<FenceEnd>,
    last_trouble: String,
}

impl Fence {
    /// Of partitions that have a leader.
    pub fn new(partitions: impl IntoIterator<Item = usize>) -> Self {
        Self {
            partitions: partitions.into_iter().collect(),
            stage: Stage::Initialize,
            has_coordinator: false,
            producer: (-1, -1),
            requests: 0,
            failures: 0,
            wait: false,
            end: None,
            last_trouble: String::new(),
        }
    }

    /// What to do next. After each step but a wait its answer is due.
    pub fn poll(&mut self) -> FenceStep {
        if let Some(end) = &self.end {
            return FenceStep::Done(end.clone());
        }
        if std::mem::take(&mut self.wait) {
            return FenceStep::Wait(WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX));
        }
        if self.requests == MAX_REQUESTS {
            return FenceStep::Done(FenceEnd::Failed(self.last_trouble.clone()));
        }
        self.requests += 1;
        let producer = self.producer;
        match self.stage {
            _ if !self.has_coordinator => FenceStep::FindCoordinator,
            Stage::Initialize => FenceStep::InitProducerId,
            Stage::Add => FenceStep::AddPartitions {
                producer,
                partitions: self.partitions.iter().copied().collect(),
            },
            Stage::End { .. } => FenceStep::EndTxn { producer },
        }
    }

    pub fn handle_coordinator(&mut self, answer: Result<(), FenceTrouble>) {
        match answer {
            Ok(()) => self.has_coordinator = true,
            Err(trouble) => self.trouble(trouble),
        }
    }

    pub fn handle_producer(&mut self, answer: Result<(i64, i16), FenceTrouble>) {
        match answer {
            Ok(producer) => {
                self.failures = 0;
                self.producer = producer;
                self.stage = Stage::Add;
                self.end_without_partitions();
            }
            Err(trouble) => self.trouble(trouble),
        }
    }

    /// One unknown partition makes the whole request void (the others get OPERATION_NOT_ATTEMPTED): it is left out, and the
    /// rest sent again.
    pub fn handle_added(&mut self, answer: Result<Vec<(usize, ErrorCode)>, FenceTrouble>) {
        let answers = match answer {
            Ok(answers) => answers,
            Err(trouble) => return self.trouble(trouble),
        };
        let mut is_void = false;
        for (partition, code) in answers {
            match code {
                ErrorCode::None => {}
                ErrorCode::OperationNotAttempted => is_void = true,
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::InvalidTopicException => {
                    self.partitions.remove(&partition);
                    is_void = true;
                }
                code => return self.trouble(FenceTrouble::Refused(code)),
            }
        }
        if !is_void {
            self.failures = 0;
            self.stage = Stage::End { answered: false };
        }
        self.end_without_partitions();
    }

    pub fn handle_ended(&mut self, answer: Result<(), FenceTrouble>) {
        match (answer, self.stage) {
            (Ok(()), Stage::End { answered: true }) => {
                self.end = Some(FenceEnd::Fenced {
                    producer: self.producer,
                    partitions: self.partitions.iter().copied().collect(),
                });
            }
            (Ok(()), _) => {
                (self.stage, self.wait, self.failures) = (Stage::End { answered: true }, true, 0);
            }
            (Err(trouble), _) => self.trouble(trouble),
        }
    }

    fn end_without_partitions(&mut self) {
        if self.partitions.is_empty() {
            self.end = Some(FenceEnd::Fenced {
                producer: self.producer,
                partitions: Vec::new(),
            });
        }
    }

    fn trouble(&mut self, trouble: FenceTrouble) {
        self.failures += 1;
        self.wait = true;
        let code = match trouble {
            FenceTrouble::Unsupported => {
                self.end = Some(FenceEnd::NotAllowed(ErrorCode::UnsupportedVersion));
                return;
            }
            FenceTrouble::Unknown(cause) => {
                (self.has_coordinator, self.last_trouble) = (false, cause);
                return;
            }
            FenceTrouble::Refused(code) => code,
        };
        code.name().clone_into(&mut self.last_trouble);
        match code {
            ErrorCode::ConcurrentTransactions => {}
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => {
                self.has_coordinator = false
            }
            ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidTransactionTimeout
            | ErrorCode::UnsupportedVersion => self.end = Some(FenceEnd::NotAllowed(code)),
            ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => self.end = Some(FenceEnd::Overtaken),
            // The id has expired, or the transaction that we mean is over (a time-out has ended it, and raised the epoch).
            ErrorCode::InvalidProducerIdMapping | ErrorCode::InvalidTxnState => self.stage = Stage::Initialize,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(code: ErrorCode) -> Result<T, FenceTrouble> {
        Err(FenceTrouble::Refused(code))
    }

    /// Polls past waits.
    fn next(fence: &mut Fence) -> FenceStep {
        loop {
            match fence.poll() {
                FenceStep::Wait(_) => {}
                step => return step,
            }
        }
    }

    /// A fence of partitions 3 and 5 that has its producer.
    fn initialized() -> Fence {
        let mut fence = Fence::new([3, 5]);
        assert_eq!(fence.poll(), FenceStep::FindCoordinator);
        fence.handle_coordinator(Ok(()));
        assert_eq!(fence.poll(), FenceStep::InitProducerId);
        fence.handle_producer(Ok((7, 2)));
        fence
    }

    const END: FenceStep = FenceStep::EndTxn { producer: (7, 2) };

    fn added() -> Fence {
        let mut fence = initialized();
        let add = FenceStep::AddPartitions {
            producer: (7, 2),
            partitions: vec![3, 5],
        };
        assert_eq!(fence.poll(), add);
        fence.handle_added(Ok(vec![(3, ErrorCode::None), (5, ErrorCode::None)]));
        fence
    }

    #[test]
    fn a_fence_stands_when_the_transaction_is_complete_not_when_it_was_ended() {
        let mut fence = added();
        assert_eq!(fence.poll(), END);
        fence.handle_ended(Ok(()));
        assert_eq!(next(&mut fence), END, "the first answer comes before the markers");
        fence.handle_ended(refused(ErrorCode::ConcurrentTransactions));
        assert_eq!(next(&mut fence), END);
        fence.handle_ended(Ok(()));
        let end = FenceEnd::Fenced {
            producer: (7, 2),
            partitions: vec![3, 5],
        };
        assert_eq!(fence.poll(), FenceStep::Done(end));
    }

    #[test]
    fn an_unknown_partition_is_left_out_and_the_others_sent_again() {
        let mut fence = initialized();
        fence.poll();
        fence.handle_added(Ok(vec![
            (3, ErrorCode::UnknownTopicOrPartition),
            (5, ErrorCode::OperationNotAttempted),
        ]));
        let add = FenceStep::AddPartitions {
            producer: (7, 2),
            partitions: vec![5],
        };
        assert_eq!(fence.poll(), add);
    }

    #[test]
    fn without_partitions_there_is_nothing_to_end() {
        let mut fence = initialized();
        fence.poll();
        fence.handle_added(Ok(vec![
            (3, ErrorCode::UnknownTopicOrPartition),
            (5, ErrorCode::UnknownTopicOrPartition),
        ]));
        let end = FenceEnd::Fenced {
            producer: (7, 2),
            partitions: vec![],
        };
        assert_eq!(fence.poll(), FenceStep::Done(end));
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_at_the_coordinator_of_then() {
        let mut fence = added();
        fence.poll();
        fence.handle_ended(Err(FenceTrouble::Unknown("cut".into())));
        assert_eq!(next(&mut fence), FenceStep::FindCoordinator);
        fence.handle_coordinator(Ok(()));
        assert_eq!(fence.poll(), END);
    }

    #[test]
    fn a_transaction_that_a_time_out_has_ended_is_begun_anew() {
        let mut fence = added();
        fence.poll();
        fence.handle_ended(refused(ErrorCode::InvalidTxnState));
        assert_eq!(next(&mut fence), FenceStep::InitProducerId);
    }

    #[test]
    fn another_instance_that_was_faster_is_not_fenced_in_turn() {
        let mut fence = added();
        fence.poll();
        fence.handle_ended(refused(ErrorCode::InvalidProducerEpoch));
        assert_eq!(next(&mut fence), FenceStep::Done(FenceEnd::Overtaken));
    }

    #[test]
    fn without_permission_there_is_no_fence() {
        let mut fence = Fence::new([1]);
        fence.poll();
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        fence.handle_coordinator(refused(code));
        assert_eq!(next(&mut fence), FenceStep::Done(FenceEnd::NotAllowed(code)));
    }

    #[test]
    fn a_fence_that_never_comes_about_is_given_up() {
        let mut fence = Fence::new([1]);
        let mut asked = 0;
        let end = loop {
            match fence.poll() {
                FenceStep::FindCoordinator => {
                    asked += 1;
                    fence.handle_coordinator(refused(ErrorCode::CoordinatorNotAvailable));
                }
                FenceStep::Wait(wait) => assert!(wait <= WAIT_MAX),
                FenceStep::Done(end) => break end,
                step => panic!("{step:?}"),
            }
        };
        assert_eq!(asked, MAX_REQUESTS);
        assert_eq!(end, FenceEnd::Failed("COORDINATOR_NOT_AVAILABLE".into()));
    }
}

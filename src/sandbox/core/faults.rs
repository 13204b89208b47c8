//! Faults that a test arms: the n-th request of a kind is refused, delayed, held, answered wrongly, or loses its
//! connection.

use kafka_protocol::messages::ApiKey;

use crate::protocol::error_code::ErrorCode;

/// A fault, and the requests that it befalls: `times` requests of `api`, after `skip` of them went unharmed.
#[derive(Debug, Clone)]
pub struct Fault {
    api: ApiKey,
    effect: Effect,
    broker: Option<i32>,
    partition: Option<(String, i32)>,
    skip: u32,
    times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answered with this error where the API has room for it, and not done. With a partition named, only that one is.
    Refuse(ErrorCode),
    /// Done at once, answered later.
    Delay { ms: i64 },
    /// The connection is closed and nothing done.
    DropBefore,
    /// Done, and the connection closed instead of an answer.
    DropAfter,
    /// One byte of the answer is inverted, counted from its correlation id.
    Corrupt { position: usize },
    /// Done; the answer asks to be left alone for a while (KIP-219). Of Fetch only, and nobody sees to it.
    Throttle { ms: i32 },
    /// Done, and answered only after [`Cluster::release`](super::Cluster::release).
    Hold,
}

impl Effect {
    pub(super) fn corrupt_position(&self) -> Option<usize> {
        match *self {
            Self::Corrupt { position } => Some(position),
            _ => None,
        }
    }

    pub(super) fn throttle_ms(&self) -> Option<i32> {
        match *self {
            Self::Throttle { ms } => Some(ms),
            _ => None,
        }
    }

    pub(super) fn delay_ms(&self) -> Option<i64> {
        match *self {
            Self::Delay { ms } => Some(ms),
            _ => None,
        }
    }
}

/// What befalls one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Fate {
    pub refusal: Option<Refusal>,
    pub effects: Vec<Effect>,
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    partition: Option<(String, i32)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Fault {
    /// Befalls the next request of `api`.
    pub fn new(api: ApiKey, effect: Effect) -> Self {
        Self {
            api,
            effect,
            broker: None,
            partition: None,
            skip: 0,
            times: 1,
        }
    }

    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only requests to this broker count.
    pub fn on_broker(mut self, broker: i32) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Only requests that name this partition count: of Produce, Fetch (sessions included) and ListOffsets.
    pub fn on_partition(mut self, topic: &str, partition: i32) -> Self {
        self.partition = Some((topic.to_owned(), partition));
        self
    }
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether what a request names has to be known.
    pub(super) fn look_at_partitions(&self, api: ApiKey) -> bool {
        self.0.iter().any(|fault| fault.api == api && fault.partition.is_some())
    }

    /// Counts one request, and says what befalls it.
    pub(super) fn befall(&mut self, api: ApiKey, broker: i32, partitions: &[(String, i32)]) -> Fate {
        let mut fate = Fate::default();
        for fault in &mut self.0 {
            let is_meant = fault.api == api
                && fault.broker.is_none_or(|named| named == broker)
                && fault.partition.as_ref().is_none_or(|named| partitions.contains(named));
            if !is_meant {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.saturating_sub(1);
            match fault.effect {
                Effect::Refuse(code) => {
                    fate.refusal = Some(Refusal {
                        code,
                        partition: fault.partition.clone(),
                    });
                }
                effect => fate.effects.push(effect),
            }
        }
        self.0.retain(|fault| fault.times > 0);
        fate
    }
}

impl Refusal {
    pub(super) fn is_meant_for(&self, topic: &str, partition: i32) -> bool {
        self.partition
            .as_ref()
            .is_none_or(|(named, index)| named == topic && *index == partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_request_of_the_kind_is_hit() {
        let mut faults = Faults::default();
        faults.arm(Fault::new(ApiKey::Produce, Effect::DropAfter).after(2));

        let mut hit = |api| !faults.befall(api, 1, &[]).effects.is_empty();

        assert_eq!(
            [
                ApiKey::Produce,
                ApiKey::Fetch,
                ApiKey::Produce,
                ApiKey::Produce,
                ApiKey::Produce
            ]
            .map(&mut hit),
            [false, false, false, true, false]
        );
    }

    #[test]
    fn requests_that_do_not_name_the_partition_do_not_count() {
        let mut faults = Faults::default();
        faults.arm(Fault::new(ApiKey::Fetch, Effect::Refuse(ErrorCode::KafkaStorageError)).on_partition("t", 1));

        assert!(faults.befall(ApiKey::Fetch, 1, &[("t".into(), 0)]).refusal.is_none());
        let refusal = faults
            .befall(ApiKey::Fetch, 1, &[("t".into(), 0), ("t".into(), 1)])
            .refusal
            .unwrap();

        assert!(refusal.is_meant_for("t", 1) && !refusal.is_meant_for("t", 0));
    }
}

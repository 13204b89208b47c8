//! Quotas: how long a broker wants to be left alone.
//!
//! A broker that throttles answers at once, says for how long, and reads nothing more from the connection for that time
//! (KIP-219). Whatever is sent meanwhile lies in socket buffers with its time-out running. So the connection holds it
//! back; connections to other brokers, and for other purposes, go on.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::{locked, now};
use crate::protocol::ApiKey;
use crate::protocol::primitives::Reader;

/// Until when one connection sends nothing.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// Takes in a throttle time from a response. Returns the wait, if it is a longer one than is waited for anyway.
    pub(super) fn extend(&self, throttle_time_ms: i32) -> Option<Duration> {
        let wait = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0)).min(LONGEST);
        let until = now() + wait;
        let mut known = locked(&self.0);
        if wait.is_zero() || known.is_some_and(|known| known >= until) {
            return None;
        }
        *known = Some(until);
        Some(wait)
    }

    /// Waits until something may be sent.
    pub(super) async fn over(&self) {
        while let Some(until) = self.until() {
            tokio::time::sleep_until(until).await;
        }
    }

    fn until(&self) -> Option<Instant> {
        let mut until = locked(&self.0);
        *until = until.filter(|until| *until > now());
        *until
    }
}

/// The throttle time in a response's body, of the APIs that begin with it.
pub(super) fn leading_throttle_time_ms(api: ApiKey, version: i16, body: &[u8]) -> i32 {
    let since = match api {
        ApiKey::Fetch
        | ApiKey::CreatePartitions
        | ApiKey::DescribeAcls
        | ApiKey::CreateAcls
        | ApiKey::DeleteAcls
        | ApiKey::DescribeConfigs
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::EndTxn
        | ApiKey::DescribeCluster
        | ApiKey::DescribeProducers
        | ApiKey::DeleteRecords => 0,
        ApiKey::FindCoordinator | ApiKey::DescribeGroups | ApiKey::ListGroups | ApiKey::DeleteTopics => 1,
        ApiKey::ListOffsets | ApiKey::OffsetForLeaderEpoch | ApiKey::CreateTopics => 2,
        ApiKey::Metadata | ApiKey::OffsetCommit | ApiKey::OffsetFetch => 3,
        // Produce and ApiVersions have it elsewhere, SASL has none.
        _ => return 0,
    };
    if version < since {
        0
    } else {
        Reader::new(body).i32().unwrap_or(0)
    }
}

/// Longer throttle times are cut to this: a broker's own limit is its quota window, some ten seconds.
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{
        CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse, DescribeClusterResponse,
        DescribeConfigsResponse, FetchResponse, FindCoordinatorResponse, InitProducerIdResponse, ListOffsetsResponse,
        MetadataResponse, OffsetFetchResponse,
    };
    use kafka_protocol::protocol::Encodable;

    fn assert_found<R: Encodable>(api: ApiKey, response: &R, since: i16) {
        let (min, max) = crate::protocol::versions::spoken(api).unwrap();
        for version in min..=max {
            let mut body = Vec::new();
            response.encode(&mut body, version).unwrap();
            let expected = if version < since { 0 } else { 1234 };
            assert_eq!(
                leading_throttle_time_ms(api, version, &body),
                expected,
                "{api:?} {version}"
            );
        }
    }

    #[test]
    fn the_throttle_time_is_found_in_every_version() {
        macro_rules! check {
            ($($api:ident $response:ident $since:literal,)*) => {
                $(assert_found(ApiKey::$api, &$response::default().with_throttle_time_ms(1234), $since);)*
            };
        }
        check! {
            Fetch FetchResponse 0,
            CreatePartitions CreatePartitionsResponse 0,
            DescribeConfigs DescribeConfigsResponse 0,
            InitProducerId InitProducerIdResponse 0,
            DescribeCluster DescribeClusterResponse 0,
            FindCoordinator FindCoordinatorResponse 1,
            DeleteTopics DeleteTopicsResponse 1,
            ListOffsets ListOffsetsResponse 2,
            CreateTopics CreateTopicsResponse 2,
            Metadata MetadataResponse 3,
            OffsetFetch OffsetFetchResponse 3,
        }
    }

    #[tokio::test]
    async fn a_shorter_throttle_time_does_not_shorten_the_wait() {
        let throttle = Throttle::default();
        assert_eq!(throttle.extend(50), Some(Duration::from_millis(50)));
        assert_eq!(throttle.extend(1), None);
        assert_eq!(throttle.extend(0), None);
        assert_eq!(throttle.extend(-5), None);
        let begin = now();
        throttle.over().await;
        assert!(now() - begin >= Duration::from_millis(40));
    }

    #[test]
    fn an_absurd_throttle_time_is_capped() {
        let throttle = Throttle::default();
        assert_eq!(throttle.extend(i32::MAX), Some(LONGEST));
    }
}

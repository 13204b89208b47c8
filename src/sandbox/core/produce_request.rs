//! A produce request, decoded and its batches read through: everything about it that needs no cluster.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::{ProduceRequest as WireRequest, TopicName};
use uuid::Uuid;

use super::log::{ClientBatch, Invalid};
use super::wire::{RequestError, RequestHead};

#[derive(Debug)]
pub(super) struct ProduceRequest {
    pub transactional_id: Option<String>,
    pub acks: i16,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Debug)]
pub(super) struct ProduceTopic {
    pub name: TopicName,
    pub id: Uuid,
    /// By partition.
    pub batches: BTreeMap<i32, Result<ClientBatch, Invalid>>,
}

impl ProduceRequest {
    pub(super) fn read(head: &RequestHead, body: Bytes) -> Result<Self, RequestError> {
        let request: WireRequest = head.decode(body)?;
        let mut topics = Vec::with_capacity(request.topic_data.len());
        for topic in request.topic_data {
            // Of a partition that is named twice, brokers take the last batch and drop the others in silence.
            let mut batches = BTreeMap::new();
            for partition in topic.partition_data {
                // Real brokers never answer such a request, or close the connection.
                let records = partition.records.ok_or(RequestError::NullRecords)?;
                batches.insert(partition.index, ClientBatch::read(records, head.version));
            }
            topics.push(ProduceTopic {
                name: topic.name,
                id: topic.topic_id,
                batches,
            });
        }
        Ok(Self {
            transactional_id: request.transactional_id.map(|id| id.to_string()),
            acks: request.acks,
            topics,
        })
    }

    /// The producers of the transactional batches, each once.
    pub(super) fn transactional_producers(&self) -> Vec<(i64, i16)> {
        let mut producers: Vec<_> = self
            .topics
            .iter()
            .flat_map(|topic| topic.batches.values())
            .filter_map(|batch| batch.as_ref().ok()?.transactional_producer())
            .collect();
        producers.sort_unstable();
        producers.dedup();
        producers
    }
}

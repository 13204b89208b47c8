//! DeleteTopics, by name or by id.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

use super::{Call, Cluster, code_of};
use crate::protocol::error_code::ErrorCode;

const FIRST_WITH_IDS: i16 = 6;

pub(super) fn handle(cluster: &mut Cluster, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name: &TopicName| DeleteTopicState::default().with_name(Some(name.clone()));
    let wanted: Vec<_> = match call.head.version {
        FIRST_WITH_IDS.. => request.topics,
        _ => request.topic_names.iter().map(by_name).collect(),
    };
    let responses = wanted.into_iter().map(|wanted| {
        let name = match &wanted.name {
            Some(name) => Ok(name.clone()),
            None => cluster
                .topics
                .name_of(wanted.topic_id)
                .cloned()
                .ok_or(ErrorCode::UnknownTopicId),
        };
        let known = name.as_ref().ok().and_then(|name| cluster.topics.get(name));
        let id = known.map_or(wanted.topic_id, |topic| topic.id);
        let deleted = name.clone().and_then(|name| delete(cluster, call, &name));
        DeletableTopicResult::default()
            .with_name(name.ok())
            .with_topic_id(id)
            .with_error_code(code_of(deleted))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

fn delete(cluster: &mut Cluster, call: &Call, name: &TopicName) -> Result<(), ErrorCode> {
    call.check_refusal(name, 0)?;
    match cluster.delete_topic(name) {
        true => Ok(()),
        false => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

//! Consumer groups of the classic protocol, and their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest, ProducerId,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::messages::{OffsetDeleteRequest, TopicName};
use kferry::protocol::error_code::ErrorCode;

use crate::cluster::TestCluster;
use crate::kafka::Version;
use crate::member::{Commit, Group};
use crate::probe::{is_passing, text};
use crate::transaction::Transactional;

cases! {
    an_outsider_commits_to_an_absent_group_and_so_creates_it,
    a_commit_can_be_too_large_or_of_a_partition_that_is_not_there,
    a_generation_of_an_absent_group_is_refused,
    a_new_member_is_told_to_come_back_with_an_id,
    a_member_joins_and_gets_what_the_leader_assigns,
    two_members_rebalance_into_one_generation,
    members_commit_in_their_generation_and_outsiders_not_at_all,
    nobody_commits_between_the_join_and_the_assignment,
    a_member_that_dies_is_removed,
    a_group_is_empty_when_its_last_member_has_left,
    a_static_member_comes_back_without_a_rebalance,
    requests_to_join_that_make_no_sense_are_refused,
    groups_are_listed_by_state,
    an_absent_group_is_dead,
    a_group_with_members_cannot_be_deleted,
    offsets_of_a_topic_that_is_consumed_cannot_be_deleted,
    offsets_in_a_transaction_count_once_it_is_committed,
    a_nameless_transaction_commits_into_a_group_with_members,
}

async fn an_outsider_commits_to_an_absent_group_and_so_creates_it(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;

    assert_eq!(group.commit(&Commit::of(&topic, 7)).await, ErrorCode::None);
    assert_eq!(
        group.commit(&Commit::of(&topic, 3)).await,
        ErrorCode::None,
        "backwards as well"
    );

    assert_eq!(group.committed(&topic, false).await, (3, ErrorCode::None));
    let described = describe(cluster, &group).await;
    assert_eq!(
        (described.group_state.as_str(), described.protocol_type.as_str()),
        ("Empty", "")
    );
}

async fn a_commit_can_be_too_large_or_of_a_partition_that_is_not_there(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let with = |len: usize| Commit {
        metadata: "x".repeat(len),
        ..Commit::of(&topic, 7)
    };

    assert_eq!(group.commit(&with(4096)).await, ErrorCode::None);
    assert_eq!(group.commit(&with(4097)).await, ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(
        group.commit(&Commit::of("absent", 7)).await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(group.committed("absent", false).await, (-1, ErrorCode::None));
}

async fn a_generation_of_an_absent_group_is_refused(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let by_member = Commit {
        generation: 1,
        member: "somebody".to_owned(),
        ..Commit::of(&topic, 7)
    };

    assert_eq!(group.commit(&by_member).await, ErrorCode::IllegalGeneration);
    if cluster.release() == Version::V4 {
        let newer = Commit {
            version: Some(9),
            ..by_member
        };
        assert_eq!(group.commit(&newer).await, ErrorCode::GroupIdNotFound);
    }
}

async fn a_new_member_is_told_to_come_back_with_an_id(cluster: &TestCluster) {
    let group = Group::new(cluster).await;

    let asked = group.join(&cluster.probe, "").await;

    assert_eq!(asked.error, ErrorCode::MemberIdRequired);
    assert!(!asked.member_id.is_empty());
    let joined = group.join(&cluster.probe, &asked.member_id).await;
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert_eq!(joined.leader, asked.member_id);
    assert_eq!(joined.members, [asked.member_id]);
}

async fn a_member_joins_and_gets_what_the_leader_assigns(cluster: &TestCluster) {
    let group = Group::new(cluster).await;
    let member = group.member(&cluster.probe).await;

    let (error, assignment) = group
        .sync(&cluster.probe, &member, &[(&member.member_id, "mine")])
        .await;

    assert_eq!((error, assignment.as_ref()), (ErrorCode::None, &b"mine"[..]));
    assert_eq!(group.heartbeat(&member).await, ErrorCode::None);
    let described = describe(cluster, &group).await;
    assert_eq!(
        (described.group_state.as_str(), described.protocol_data.as_str()),
        ("Stable", "range")
    );
    assert_eq!(described.members[0].member_assignment.as_ref(), b"mine");
    // Asked for again it is the same; who leads need not assign again.
    let (error, again) = group.sync(&cluster.probe, &member, &[]).await;
    assert_eq!((error, again.as_ref()), (ErrorCode::None, &b"mine"[..]));
}

async fn two_members_rebalance_into_one_generation(cluster: &TestCluster) {
    let group = Group::new(cluster).await;
    let first = group.stable_member(&cluster.probe).await;
    let other = cluster.another_probe().await;
    let second = group.join(&other, "").await.member_id;

    // Held back until the first member has joined again, which learns by a heartbeat that it has to.
    let joining = group.start_join(&other, &second);
    while group.heartbeat(&first).await != ErrorCode::RebalanceInProgress {}
    assert_eq!(
        describe(cluster, &group).await.group_state.as_str(),
        "PreparingRebalance"
    );
    let first = group.join(&cluster.probe, &first.member_id).await;
    let second = joining.await;

    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(first.leader, second.leader);
    let told = if first.leader == first.member_id {
        [&first, &second]
    } else {
        [&second, &first]
    };
    assert_eq!(
        (told[0].members.len(), told[1].members.len()),
        (2, 0),
        "only the leader is told who is in"
    );

    let follower = if first.leader == first.member_id {
        &second
    } else {
        &first
    };
    let leader = if first.leader == first.member_id {
        &first
    } else {
        &second
    };
    let waiting = group.start_sync(&other, follower, &[]);
    let assigned = [(follower.member_id.as_str(), "a"), (leader.member_id.as_str(), "b")];
    let (_, leaders) = group.sync(&cluster.probe, leader, &assigned).await;
    assert_eq!((waiting.await.1.as_ref(), leaders.as_ref()), (&b"a"[..], &b"b"[..]));
}

async fn members_commit_in_their_generation_and_outsiders_not_at_all(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let member = group.stable_member(&cluster.probe).await;
    let by = |member: &str, generation| Commit {
        member: member.to_owned(),
        generation,
        ..Commit::of(&topic, 7)
    };

    assert_eq!(group.commit(&by(&member.member_id, 1)).await, ErrorCode::None);
    assert_eq!(
        group.commit(&by(&member.member_id, 0)).await,
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        group.commit(&by(&member.member_id, -1)).await,
        ErrorCode::IllegalGeneration
    );
    assert_eq!(group.commit(&by("somebody", 1)).await, ErrorCode::UnknownMemberId);
    assert_eq!(group.commit(&Commit::of(&topic, 9)).await, ErrorCode::UnknownMemberId);
    assert_eq!(group.committed(&topic, false).await, (7, ErrorCode::None));
}

async fn nobody_commits_between_the_join_and_the_assignment(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let member = group.member(&cluster.probe).await;
    assert_eq!(
        describe(cluster, &group).await.group_state.as_str(),
        "CompletingRebalance"
    );

    let commit = Commit {
        member: member.member_id,
        generation: 1,
        ..Commit::of(&topic, 7)
    };

    assert_eq!(group.commit(&commit).await, ErrorCode::RebalanceInProgress);
}

async fn a_member_that_dies_is_removed(cluster: &TestCluster) {
    let group = Group::new(cluster).await;
    let member = group.stable_member(&cluster.probe).await;

    // The shortest session that brokers allow is six seconds.
    while describe(cluster, &group).await.group_state.as_str() != "Empty" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    assert_eq!(group.heartbeat(&member).await, ErrorCode::UnknownMemberId);
}

async fn a_group_is_empty_when_its_last_member_has_left(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let member = group.stable_member(&cluster.probe).await;

    assert_eq!(group.leave(&member.member_id).await, ErrorCode::None);
    assert_eq!(group.leave(&member.member_id).await, ErrorCode::UnknownMemberId);

    let described = describe(cluster, &group).await;
    assert_eq!(
        (described.group_state.as_str(), described.protocol_type.as_str()),
        ("Empty", "consumer")
    );
    assert_eq!(group.commit(&Commit::of(&topic, 7)).await, ErrorCode::None);
    assert_eq!(
        group.member(&cluster.probe).await.generation,
        3,
        "to be empty was a generation too"
    );
}

async fn a_static_member_comes_back_without_a_rebalance(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group {
        instance_id: Some("one".to_owned()),
        ..Group::new(cluster).await
    };
    let first = group.join(&cluster.probe, "").await;
    assert_eq!((first.error, first.generation), (ErrorCode::None, 1));
    group.sync(&cluster.probe, &first, &[(&first.member_id, "mine")]).await;

    let second = group.join(&cluster.probe, "").await;

    assert_eq!((second.error, second.generation), (ErrorCode::None, 1));
    assert_ne!(first.member_id, second.member_id);
    let (_, assignment) = group.sync(&cluster.probe, &second, &[]).await;
    assert_eq!(assignment.as_ref(), b"mine");
    assert_eq!(group.heartbeat(&first).await, ErrorCode::FencedInstanceId);
    let commit = Commit {
        member: first.member_id,
        generation: 1,
        instance_id: Some("one"),
        ..Commit::of(&topic, 7)
    };
    assert_eq!(group.commit(&commit).await, ErrorCode::FencedInstanceId);
}

async fn requests_to_join_that_make_no_sense_are_refused(cluster: &TestCluster) {
    let group = Group::new(cluster).await;
    let short = Group {
        session_timeout_ms: 5_999,
        ..group.clone()
    };
    let long = Group {
        session_timeout_ms: 1_800_001,
        ..group.clone()
    };
    let nameless = Group {
        id: String::new(),
        ..group.clone()
    };
    let without_protocol = Group {
        protocols: Vec::new(),
        ..group.clone()
    };

    assert_eq!(
        short.join(&cluster.probe, "").await.error,
        ErrorCode::InvalidSessionTimeout
    );
    assert_eq!(
        long.join(&cluster.probe, "").await.error,
        ErrorCode::InvalidSessionTimeout
    );
    assert_eq!(nameless.join(&cluster.probe, "").await.error, ErrorCode::InvalidGroupId);
    assert_eq!(
        without_protocol.join(&cluster.probe, "").await.error,
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(
        group.join(&cluster.probe, "somebody").await.error,
        ErrorCode::UnknownMemberId
    );
}

async fn groups_are_listed_by_state(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let (empty, stable) = (Group::new(cluster).await, Group::new(cluster).await);
    empty.commit(&Commit::of(&topic, 7)).await;
    stable.stable_member(&cluster.probe).await;
    let listed = async |states: &[&str]| {
        let request = ListGroupsRequest::default().with_states_filter(states.iter().map(|state| text(state)).collect());
        let groups = cluster.probe.send(4, &request).await.groups;
        let known = groups
            .into_iter()
            .filter(|group| [&empty.id, &stable.id].contains(&&group.group_id.to_string()));
        let mut states: Vec<_> = known.map(|group| group.group_state.to_string()).collect();
        states.sort_unstable();
        states
    };

    assert_eq!(listed(&[]).await, ["Empty", "Stable"]);
    assert_eq!(listed(&["Stable"]).await, ["Stable"]);
    assert_eq!(listed(&["Dead", "PreparingRebalance"]).await, [""; 0]);
}

async fn an_absent_group_is_dead(cluster: &TestCluster) {
    let group = Group::new(cluster).await;

    let described = describe(cluster, &group).await;

    assert_eq!((described.error_code, described.group_state.as_str()), (0, "Dead"));
}

async fn a_group_with_members_cannot_be_deleted(cluster: &TestCluster) {
    let group = Group::new(cluster).await;
    let member = group.stable_member(&cluster.probe).await;

    assert_eq!(delete(cluster, &group).await, ErrorCode::NonEmptyGroup);
    group.leave(&member.member_id).await;

    assert_eq!(delete(cluster, &group).await, ErrorCode::None);
    assert_eq!(delete(cluster, &group).await, ErrorCode::GroupIdNotFound);
}

async fn offsets_of_a_topic_that_is_consumed_cannot_be_deleted(cluster: &TestCluster) {
    let (consumed, other) = (cluster.topic(&[]).await, cluster.topic(&[]).await);
    let group = Group {
        topic: consumed.clone(),
        ..Group::new(cluster).await
    };
    for topic in [&consumed, &other] {
        assert_eq!(group.commit(&Commit::of(topic, 7)).await, ErrorCode::None);
    }
    group.stable_member(&cluster.probe).await;
    let delete = async |topic: &str| {
        let partition = OffsetDeleteRequestPartition::default();
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let request = OffsetDeleteRequest::default()
            .with_group_id(GroupId(text(&group.id)))
            .with_topics(vec![topic]);
        let response = cluster.probe.send(0, &request).await;
        assert_eq!(response.error_code, 0);
        ErrorCode::from_wire(response.topics[0].partitions[0].error_code)
    };

    assert_eq!(delete(&consumed).await, ErrorCode::GroupSubscribedToTopic);
    assert_eq!(delete(&other).await, ErrorCode::None);

    assert_eq!(group.committed(&consumed, false).await.0, 7);
    assert_eq!(group.committed(&other, false).await.0, -1);
}

async fn offsets_in_a_transaction_count_once_it_is_committed(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    let producer = Transactional::new(cluster).await;

    for (committed, offset, after) in [(true, 7, 7), (false, 9, 7)] {
        add_offsets(cluster, &producer, &group).await;
        assert_eq!(
            commit_in_transaction(cluster, &producer, &group, &topic, offset).await,
            ErrorCode::None
        );
        assert_eq!(
            group.committed(&topic, true).await,
            (-1, ErrorCode::UnstableOffsetCommit)
        );
        producer.end(committed).await;

        while group.committed(&topic, true).await.1 == ErrorCode::UnstableOffsetCommit {}
        assert_eq!(group.committed(&topic, true).await, (after, ErrorCode::None));
    }
}

async fn a_nameless_transaction_commits_into_a_group_with_members(cluster: &TestCluster) {
    let topic = cluster.topic(&[]).await;
    let group = Group::new(cluster).await;
    group.stable_member(&cluster.probe).await;
    let producer = Transactional::new(cluster).await;
    add_offsets(cluster, &producer, &group).await;

    assert_eq!(
        commit_in_transaction(cluster, &producer, &group, &topic, 7).await,
        ErrorCode::None
    );

    producer.end(true).await;
}

async fn add_offsets(cluster: &TestCluster, producer: &Transactional<'_>, group: &Group<'_>) {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(TransactionalId(text(&producer.transactional_id)))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_group_id(GroupId(text(&group.id)));
    while is_passing(ErrorCode::from_wire(cluster.probe.send(1, &request).await.error_code)) {}
    assert_eq!(cluster.probe.send(1, &request).await.error_code, 0);
}

async fn commit_in_transaction(
    cluster: &TestCluster,
    producer: &Transactional<'_>,
    group: &Group<'_>,
    topic: &str,
    offset: i64,
) -> ErrorCode {
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(&producer.transactional_id)))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_group_id(GroupId(text(&group.id)))
        .with_topics(vec![topic]);
    let response = cluster.probe.send(2, &request).await;
    ErrorCode::from_wire(response.topics[0].partitions[0].error_code)
}

async fn describe(cluster: &TestCluster, group: &Group<'_>) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group.id))]);
    cluster.probe.send(5, &request).await.groups.remove(0)
}

async fn delete(cluster: &TestCluster, group: &Group<'_>) -> ErrorCode {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(&group.id))]);
    let result: DeletableGroupResult = cluster.probe.send(1, &request).await.results.remove(0);
    ErrorCode::from_wire(result.error_code)
}

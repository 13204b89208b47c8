//! Requests in, answers out: one at a time for each connection, in their order, and some of them later.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;

use super::api::fetch::ParkedFetch;
use super::api::{self, Outcome};
use super::faults::{Effect, Fate};
use super::wire::{self, Request, RequestError};
use super::{Action, Call, CloseReason, Cluster, Connection, ConnectionId, Fault};
use crate::protocol::produce_request::Segments;
use crate::sandbox::groups::{GroupResponse, Waiter};

impl Cluster {
    /// A client has connected to `broker`.
    pub fn connect(&mut self, broker: i32) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.connections.insert(
            id,
            Connection {
                broker,
                queue: VecDeque::new(),
                current: None,
            },
        );
        id
    }

    /// The client has gone. Whatever it waited for is forgotten.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.delayed.remove(&connection);
        self.held.remove(&connection);
        self.deadlines.retain(|&(_, waiting)| waiting != connection);
        self.unpark(connection);
    }

    /// Takes a frame, given without its length.
    pub fn handle(&mut self, connection: ConnectionId, frame: Bytes, now_ms: i64) -> Vec<Action> {
        self.handle_request(connection, Request::parse(frame), now_ms)
    }

    /// As [`handle`](Self::handle), where the frame was parsed beforehand.
    pub fn handle_request(
        &mut self,
        connection: ConnectionId,
        request: Result<Request, RequestError>,
        now_ms: i64,
    ) -> Vec<Action> {
        self.now_ms = now_ms;
        if let Some(known) = self.connections.get_mut(&connection) {
            known.queue.push_back(request);
            self.ready.push_back(connection);
        }
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// What is due by now, and what follows from changes that were made directly.
    pub fn poll(&mut self, now_ms: i64) -> Vec<Action> {
        self.now_ms = now_ms;
        while let Some(&(deadline, connection)) = self.deadlines.first()
            && deadline <= now_ms
        {
            self.deadlines.pop_first();
            if let Some(frame) = self.delayed.remove(&connection) {
                self.send(connection, frame);
            } else if let Some(parked) = self.unpark(connection) {
                let outcome = api::fetch::finish(self, parked).map(Outcome::Answer);
                self.conclude(connection, outcome);
            }
        }
        self.transactions.abort_overdue(now_ms);
        self.write_markers();
        self.answer_groups();
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// When [`poll`](Self::poll) has to be called next.
    pub fn next_deadline(&self) -> Option<i64> {
        let deadlines = [
            self.deadlines.first().map(|&(deadline, _)| deadline),
            self.groups.next_deadline_ms(),
            self.transactions.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Arms a fault. Several may befall one request.
    pub fn arm(&mut self, fault: Fault) {
        self.faults.arm(fault);
    }

    /// Disarms all faults; what is held stays so.
    pub fn disarm(&mut self) {
        self.faults.clear();
    }

    /// Lets go of the answers that [`Effect::Hold`] holds; they come out of the next [`poll`](Self::poll).
    pub fn release(&mut self) {
        for (connection, frame) in std::mem::take(&mut self.held) {
            self.send(connection, frame);
        }
    }

    /// Serves requests until nothing can go on.
    fn settle(&mut self) {
        loop {
            if let Some(connection) = self.ready.pop_front() {
                self.serve_next(connection);
            } else if let Some(partition) = self.touched.pop_first() {
                self.wake(partition);
            } else {
                break;
            }
        }
    }

    fn serve_next(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id).filter(|idle| idle.current.is_none()) else {
            return;
        };
        let broker = connection.broker;
        match connection.queue.pop_front() {
            None => {}
            Some(Ok(request)) => self.serve(id, broker, request),
            Some(Err(error)) => self.close(id, error.into()),
        }
    }

    fn serve(&mut self, id: ConnectionId, broker: i32, Request { head, body }: Request) {
        let partitions = match self.faults.look_at_partitions(head.api) {
            true => api::partitions_of(self, &head, &body),
            false => Vec::new(),
        };
        let Fate { refusal, effects } = self.faults.befall(head.api, broker, &partitions);
        if effects.contains(&Effect::DropBefore) {
            return self.close(id, CloseReason::Fault);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.current = Some((head.clone(), effects));
        }
        let call = Call {
            broker,
            connection: id,
            head: &head,
            refusal,
        };
        let outcome = api::dispatch(self, &call, body);
        self.conclude(id, outcome);
        if api::is_about_groups(head.api) {
            self.answer_groups();
        }
    }

    fn conclude(&mut self, id: ConnectionId, outcome: Result<Outcome, RequestError>) {
        match outcome {
            Ok(Outcome::Answer(frame)) => self.answer(id, frame),
            Ok(Outcome::Wait(parked)) => self.park(id, parked),
            Ok(Outcome::WaitForGroup) => {}
            Ok(Outcome::Silence) => {
                self.actions.push(Action::Silence(id));
                self.go_on(id);
            }
            Err(error) => self.close(id, error.into()),
        }
    }

    /// The answer to the connection's current request, which may still meet a fault.
    fn answer(&mut self, id: ConnectionId, mut frame: Segments) {
        let Some((head, effects)) = self.connections.get_mut(&id).and_then(|known| known.current.as_mut()) else {
            return;
        };
        let effects = std::mem::take(effects);
        if let Some(ms) = effects.iter().find_map(Effect::throttle_ms) {
            frame = wire::throttle(&frame, head, ms);
        }
        if effects.contains(&Effect::DropAfter) {
            return self.close(id, CloseReason::Fault);
        }
        if let Some(position) = effects.iter().find_map(Effect::corrupt_position) {
            frame = wire::corrupt(&frame, position);
        }
        if effects.contains(&Effect::Hold) {
            self.held.insert(id, frame);
        } else if let Some(ms) = effects.iter().find_map(Effect::delay_ms) {
            self.deadlines.insert((self.now_ms.saturating_add(ms), id));
            self.delayed.insert(id, frame);
        } else {
            self.send(id, frame);
        }
    }

    fn send(&mut self, id: ConnectionId, frame: Segments) {
        self.actions.push(Action::Send(id, frame));
        self.go_on(id);
    }

    fn go_on(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.current = None;
            self.ready.push_back(id);
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        self.disconnect(id);
        self.actions.push(Action::Close(id, reason));
    }

    fn park(&mut self, id: ConnectionId, parked: ParkedFetch) {
        self.deadlines.insert((parked.deadline_ms, id));
        for &partition in &parked.partitions {
            self.waiting.entry(partition).or_default().insert(id);
        }
        self.parked.insert(id, parked);
    }

    fn unpark(&mut self, id: ConnectionId) -> Option<ParkedFetch> {
        let parked = self.parked.remove(&id)?;
        self.deadlines.remove(&(parked.deadline_ms, id));
        for partition in &parked.partitions {
            if let Some(waiting) = self.waiting.get_mut(partition) {
                waiting.remove(&id);
            }
        }
        Some(parked)
    }

    /// Answers the fetches that a change of this partition completes.
    fn wake(&mut self, partition: (Uuid, i32)) {
        let waiting = self.waiting.get(&partition).cloned().unwrap_or_default();
        for id in waiting {
            let Some(parked) = self.unpark(id) else { continue };
            let outcome = api::fetch::retry(self, parked);
            self.conclude(id, outcome);
        }
    }

    /// Answers the members of groups that wait no longer.
    fn answer_groups(&mut self) {
        while let Some((Waiter(id), response)) = self.groups.poll(self.now_ms) {
            let id = ConnectionId(id);
            let Some((head, _)) = self.connections.get(&id).and_then(|known| known.current.as_ref()) else {
                continue;
            };
            let frame = match &response {
                GroupResponse::Join(response) => head.encode(response),
                GroupResponse::Sync(response) => head.encode(response),
            };
            self.conclude(id, frame.map(Outcome::Answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::*;

    use super::*;
    use crate::protocol::ApiKey;
    use crate::protocol::error_code::ErrorCode;
    use crate::sandbox::core::testing::{TestClient, batch, code, fetch_request, frame_of, produce_request};
    use crate::sandbox::core::versions::SERVED;

    fn is_answer(actions: &[Action]) -> bool {
        matches!(actions, [Action::Send(..)])
    }

    fn is_close(actions: &[Action]) -> bool {
        matches!(actions, [Action::Close(..)])
    }

    #[test]
    fn a_refused_batch_is_not_appended() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let refusal = Effect::Refuse(ErrorCode::NotEnoughReplicas);
        client.cluster.arm(Fault::new(ApiKey::Produce, refusal));

        let refused = client.produce("t", 0, batch(&["a"]));

        assert_eq!(code(refused.error_code), ErrorCode::NotEnoughReplicas);
        assert_eq!(client.produce("t", 0, batch(&["b"])).base_offset, 0);
    }

    #[test]
    fn a_connection_may_drop_before_or_after_the_work() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let produce = produce_request("t", 0, batch(&["a"]));
        client.cluster.arm(Fault::new(ApiKey::Produce, Effect::DropBefore));
        client
            .cluster
            .arm(Fault::new(ApiKey::Produce, Effect::DropAfter).after(1));

        for appended in [0, 1] {
            client.connection = client.cluster.connect(1);
            assert!(is_close(&client.send(client.connection, 9, &produce)));
            let partition = client.cluster.partition("t", 0).unwrap();
            assert_eq!(partition.log.end_offset(), appended);
        }
        assert!(client.send(client.connection, 9, &produce).is_empty(), "it is gone");
    }

    #[test]
    fn a_delayed_answer_holds_up_its_connection_and_no_other() {
        let mut client = TestClient::of(1);
        let delay = Effect::Delay { ms: 100 };
        client.cluster.arm(Fault::new(ApiKey::Metadata, delay));
        let request = MetadataRequest::default();
        assert!(client.send(client.connection, 9, &request).is_empty());
        assert!(client.send(client.connection, 9, &request).is_empty());

        let other = client.cluster.connect(1);
        assert!(is_answer(&client.send(other, 9, &request)));

        assert_eq!(client.cluster.next_deadline(), Some(client.now_ms + 100));
        assert_eq!(client.cluster.poll(client.now_ms + 100).len(), 2);
    }

    #[test]
    fn a_held_answer_comes_when_it_is_released() {
        let mut client = TestClient::of(1);
        client.cluster.arm(Fault::new(ApiKey::Metadata, Effect::Hold));
        assert!(
            client
                .send(client.connection, 9, &MetadataRequest::default())
                .is_empty()
        );
        assert!(client.cluster.poll(i64::MAX).is_empty());

        client.cluster.release();

        assert!(is_answer(&client.cluster.poll(client.now_ms)));
    }

    #[test]
    fn a_corrupt_answer_differs_in_one_byte() {
        let mut client = TestClient::of(1);
        let answer = |client: &mut TestClient| match &client.send(
            client.connection,
            0,
            &DescribeClusterRequest::default(),
        )[..]
        {
            [Action::Send(_, segments)] => wire::body_of(segments),
            other => panic!("{other:?}"),
        };
        let right = answer(&mut client);
        let corrupt = Effect::Corrupt { position: 9 };
        client.cluster.arm(Fault::new(ApiKey::DescribeCluster, corrupt));

        let wrong = answer(&mut client);

        let differing: Vec<_> = (0..right.len()).filter(|&at| right[at] != wrong[at]).collect();
        assert_eq!((wrong.len(), differing), (right.len(), vec![9]));
    }

    #[test]
    fn what_cannot_be_understood_closes_the_connection() {
        let version = |api: i16, version: i16| {
            let mut frame = frame_of(3, &ApiVersionsRequest::default()).to_vec();
            frame[..2].copy_from_slice(&api.to_be_bytes());
            frame[2..4].copy_from_slice(&version.to_be_bytes());
            Bytes::from(frame)
        };
        for frame in [
            Bytes::new(),
            Bytes::from_static(b"GET / HTTP/1.1"),
            version(3, 99),
            version(0, 2),
            version(999, 0),
            // Metadata 0, whose count promises more than there is.
            version(3, 0),
        ] {
            let mut client = TestClient::of(1);
            let actions = client.cluster.handle(client.connection, frame.clone(), 0);
            assert!(is_close(&actions), "{frame:?}: {actions:?}");
        }
    }

    /// The frame of an empty request of each API.
    macro_rules! empty_requests {
        ($($api:ident $request:ident)*) => {
            fn empty_request(api: ApiKey, version: i16) -> Bytes {
                match api {
                    $(ApiKey::$api => frame_of(version, &$request::default()),)*
                    _ => unreachable!("{api:?} is not in the list"),
                }
            }
        };
    }

    empty_requests! {
        Produce ProduceRequest Fetch FetchRequest ListOffsets ListOffsetsRequest Metadata MetadataRequest
        OffsetCommit OffsetCommitRequest OffsetFetch OffsetFetchRequest FindCoordinator FindCoordinatorRequest
        JoinGroup JoinGroupRequest Heartbeat HeartbeatRequest LeaveGroup LeaveGroupRequest SyncGroup SyncGroupRequest
        DescribeGroups DescribeGroupsRequest ListGroups ListGroupsRequest ApiVersions ApiVersionsRequest
        CreateTopics CreateTopicsRequest DeleteTopics DeleteTopicsRequest DeleteRecords DeleteRecordsRequest
        InitProducerId InitProducerIdRequest OffsetForLeaderEpoch OffsetForLeaderEpochRequest
        AddPartitionsToTxn AddPartitionsToTxnRequest AddOffsetsToTxn AddOffsetsToTxnRequest EndTxn EndTxnRequest
        WriteTxnMarkers WriteTxnMarkersRequest TxnOffsetCommit TxnOffsetCommitRequest
        DescribeConfigs DescribeConfigsRequest AlterConfigs AlterConfigsRequest CreatePartitions CreatePartitionsRequest
        DeleteGroups DeleteGroupsRequest IncrementalAlterConfigs IncrementalAlterConfigsRequest
        OffsetDelete OffsetDeleteRequest DescribeCluster DescribeClusterRequest
        DescribeProducers DescribeProducersRequest DescribeTopicPartitions DescribeTopicPartitionsRequest
    }

    #[test]
    fn every_version_that_is_served_answers() {
        for served in SERVED {
            for version in served.min..=served.max {
                let mut client = TestClient::of(1);
                let frame = empty_request(served.api, version);

                let actions = client.cluster.handle(client.connection, frame, 0);

                // An empty produce request has acks=0.
                let is_silent = served.api == ApiKey::Produce && matches!(actions[..], [Action::Silence(_)]);
                assert!(is_answer(&actions) || is_silent, "{served:?} {version}: {actions:?}");
            }
        }
    }

    #[test]
    fn no_damage_to_a_request_panics() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 2, &[]);
        let wanted = ListOffsetsRequest::default().with_replica_id(BrokerId(-1));
        let frames = [
            frame_of(9, &produce_request("t", 0, batch(&["a", "b"]))),
            frame_of::<FetchRequest>(12, &fetch_request("t", 0, 0)),
            frame_of(7, &wanted),
            frame_of(12, &MetadataRequest::default()),
        ];
        for frame in frames {
            for at in 0..frame.len() {
                for value in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut damaged = frame.to_vec();
                    damaged[at] = value;
                    let connection = client.cluster.connect(1);
                    let _ = client.cluster.handle(connection, damaged.into(), client.now_ms);
                    let _ = client.cluster.handle(connection, frame.slice(..at), client.now_ms);
                    client.cluster.disconnect(connection);
                }
            }
        }
    }

    #[test]
    fn who_hangs_up_is_forgotten() {
        let mut client = TestClient::of(1);
        client.create_topic("t", 1, &[]);
        let waiting = client.cluster.connect(1);
        let request = fetch_request("t", 0, 0).with_max_wait_ms(500);
        assert!(client.send(waiting, 12, &request).is_empty());

        client.cluster.disconnect(waiting);

        assert_eq!(client.cluster.next_deadline(), None);
        assert_eq!(client.produce("t", 0, batch(&["a"])).base_offset, 0);
    }
}

"""Two members of a consumer group share a topic, and a transaction commits a group's offsets, all by librdkafka.

Usage: librdkafka_group.py BOOTSTRAP TOPIC RECORDS

TOPIC has two partitions or more and RECORDS records. Ends with an error where something is not as it should be.
"""

import sys
import time

import confluent_kafka as kafka

DEADLINE_SECONDS = 60


class Member:
    def __init__(self, bootstrap, topic, group):
        self.records = []
        self.committed = 0
        self.assigned = set()
        self.consumer = kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 200,
            }
        )
        self.consumer.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke)

    def on_assign(self, _, partitions):
        self.assigned = {partition.partition for partition in partitions}

    def on_revoke(self, consumer, _):
        if len(self.records) > self.committed:
            consumer.commit(asynchronous=False)
            self.committed = len(self.records)
        self.assigned = set()

    def poll(self):
        record = self.consumer.poll(0.05)
        if record is None:
            return
        if record.error():
            sys.exit(f"cannot consume: {record.error()}")
        self.records.append((record.partition(), record.offset()))


def poll_until(what, members, done):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            sys.exit(f"does not happen: {what}")
        for member in members:
            member.poll()


def committed(bootstrap, topic, group, partitions):
    consumer = kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    offsets = consumer.committed([kafka.TopicPartition(topic, number) for number in partitions], timeout=30)
    consumer.close()
    return {offset.partition: offset.offset for offset in offsets}


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found}, not {expected}")


def share(bootstrap, topic, count):
    first = Member(bootstrap, topic, "shared")
    poll_until("the first member has all partitions", [first], lambda: len(first.assigned) >= 2)
    everything = set(first.assigned)
    second = Member(bootstrap, topic, "shared")
    both = [first, second]
    poll_until(
        "the members share the partitions",
        both,
        lambda: second.assigned and first.assigned and first.assigned | second.assigned == everything,
    )
    expect("partitions of both", first.assigned & second.assigned, set())
    poll_until("all is read", both, lambda: len(first.records + second.records) >= count)
    expect("records read once", len(set(first.records + second.records)), count)
    second.consumer.close()
    poll_until("the first member has all again", [first], lambda: first.assigned == everything)
    first.consumer.close()
    ends = {number: 0 for number in everything}
    for partition, offset in first.records + second.records:
        ends[partition] = max(ends[partition], offset + 1)
    expect("committed offsets", committed(bootstrap, topic, "shared", everything), ends)


def transact(bootstrap, topic):
    member = Member(bootstrap, topic, "transacting")
    poll_until("a record comes", [member], lambda: member.records)
    producer = kafka.Producer({"bootstrap.servers": bootstrap, "transactional.id": "transacting"})
    producer.init_transactions(30)
    for offset, commits in [(7, True), (9, False)]:
        producer.begin_transaction()
        producer.produce(topic, value=b"made in a transaction")
        offsets = [kafka.TopicPartition(topic, 0, offset)]
        producer.send_offsets_to_transaction(offsets, member.consumer.consumer_group_metadata(), 30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    expect("offset of the transactions", committed(bootstrap, topic, "transacting", [0]), {0: 7})
    # Closed last: a member that has left could not commit any more.
    member.consumer.close()


def main(bootstrap, topic, count):
    share(bootstrap, topic, int(count))
    transact(bootstrap, topic)


main(*sys.argv[1:])

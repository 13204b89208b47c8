"""A member of a consumer group reads some records of a topic, commits, and leaves; all by librdkafka.

Usage: librdkafka_consume.py BOOTSTRAP TOPIC GROUP COUNT

Reads COUNT records, or all where COUNT is 0, and prints partition and offset of each. Then waits for the end of its
standard input, as a member of the group, before it leaves.
"""

import os
import sys
import time

import confluent_kafka as kafka

DEADLINE_SECONDS = 60


def main(bootstrap, topic, group, count):
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            # A new group begins at the beginning; one that was moved has its place.
            "auto.offset.reset": "earliest" if count > 0 else "error",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 200,
        }
    )
    assigned, ended, offsets = set(), set(), {}
    consumer.subscribe([topic], on_assign=lambda _, parts: assigned.update(part.partition for part in parts))
    deadline = time.monotonic() + DEADLINE_SECONDS
    read = 0
    while not assigned or ended != assigned:
        if time.monotonic() > deadline:
            sys.exit(f"only {read} records come")
        record = consumer.poll(0.1)
        if record is None:
            continue
        if record.error() and record.error().code() == kafka.KafkaError._PARTITION_EOF:
            ended.add(record.partition())
            continue
        if record.error():
            sys.exit(f"cannot consume: {record.error()}")
        print(record.partition(), record.offset())
        offsets[record.partition()] = record.offset() + 1
        read += 1
        if read == count:
            break
    if offsets:
        places = [kafka.TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)
    sys.stdout.flush()
    os.close(sys.stdout.fileno())  # Closing the file alone does not.
    sys.stdin.read()
    consumer.close()


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

"""Writes every record of a topic into a file, as librdkafka reads it, in the notation of Dump.java.

Usage: librdkafka_dump.py BOOTSTRAP TOPIC ISOLATION FILE
"""

import hashlib
import sys

import confluent_kafka as kafka

TIMESTAMP_TYPES = {
    kafka.TIMESTAMP_NOT_AVAILABLE: "NoTimestampType",
    kafka.TIMESTAMP_CREATE_TIME: "CreateTime",
    kafka.TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime",
}


def text(data):
    if data is None:
        return "null"
    if len(data) <= 32:
        return "x" + data.hex()
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()}"


def line(record):
    kind, timestamp = record.timestamp()
    headers = ",".join(f"{text(key.encode())}={text(value)}" for key, value in record.headers() or [])
    fields = [record.partition(), record.offset(), timestamp, TIMESTAMP_TYPES[kind]]
    return "\t".join([*map(str, fields), text(record.key()), text(record.value()), headers])


def main(bootstrap, topic, isolation, path):
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "never-used",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "check.crcs": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([kafka.TopicPartition(topic, number, kafka.OFFSET_BEGINNING) for number in partitions])
    ended = set()
    with open(path, "w", encoding="ascii") as dump:
        while len(ended) < len(partitions):
            record = consumer.poll(30)
            if record is None:
                sys.exit(f"nothing for 30 s; partitions that have ended: {sorted(ended)}")
            if record.error() is None:
                print(line(record), file=dump)
            elif record.error().code() == kafka.KafkaError._PARTITION_EOF:
                ended.add(record.partition())
            else:
                sys.exit(str(record.error()))
    consumer.close()


main(*sys.argv[1:])

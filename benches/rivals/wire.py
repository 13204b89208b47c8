"""The few questions to a broker that a comparison has, without a JVM that takes its share of the processors."""

import socket
import struct

LIST_OFFSETS, CREATE_TOPICS, DELETE_TOPICS = 2, 19, 20
LATEST = -1


class Broker:
    """A connection to the only broker of a cluster."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.answers = self.socket.makefile("rb")

    def create_topic(self, name, partitions, configs):
        body = struct.pack(">i", 1) + string(name) + struct.pack(">ihi", partitions, 1, 0)
        body += struct.pack(">i", len(configs))
        for key, value in configs.items():
            body += string(key) + string(value)
        body += struct.pack(">i?", 60_000, False)
        answer = self.ask(CREATE_TOPICS, 2, body)
        check(answer.skip(4 + 4).string(), answer.number("h"))

    def delete_topic(self, name):
        body = struct.pack(">i", 1) + string(name) + struct.pack(">i", 60_000)
        answer = self.ask(DELETE_TOPICS, 1, body)
        check(answer.skip(4 + 4).string(), answer.number("h"))

    def end_offsets(self, topic, partitions):
        """The end of each partition; None where it has no leader so far."""
        body = struct.pack(">ii", -1, 1) + string(topic) + struct.pack(">i", partitions)
        for partition in range(partitions):
            body += struct.pack(">iq", partition, LATEST)
        answer = self.ask(LIST_OFFSETS, 1, body)
        answer.skip(4).string()
        ends = []
        for _ in range(answer.number("i")):
            _partition, code, _timestamp, offset = answer.numbers("ihqq")
            ends.append(offset if code == 0 else None)
        return ends

    def ask(self, api, version, body):
        request = struct.pack(">hhi", api, version, 0) + string("compare") + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", self.answers.read(4))
        return Answer(self.answers.read(length)).skip(4)


class Answer:
    def __init__(self, data):
        self.data = data

    def skip(self, count):
        self.data = self.data[count:]
        return self

    def numbers(self, fields):
        found = struct.unpack_from(">" + fields, self.data)
        self.skip(struct.calcsize(">" + fields))
        return found

    def number(self, field):
        return self.numbers(field)[0]

    def string(self):
        length = self.number("h")
        text = self.data[:length].decode()
        self.skip(length)
        return text


def string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def check(topic, code):
    if code != 0:
        raise RuntimeError(f"topic {topic}: error {code}")

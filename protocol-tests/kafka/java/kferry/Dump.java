package kferry;

import java.io.BufferedWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * {@code dump}: every record of a topic from its start to the end offsets as they are when it begins, one a line, into
 * a file: partition, offset, timestamp, timestamp type, key, value and headers, separated by tabs.
 *
 * <p>Data is written as {@code null}, as {@code x} and hexadecimal, or when long as length and digest. A header is
 * {@code key=value}; headers stand in their order, separated by commas.
 */
final class Dump {
    private static final Duration STUCK = Duration.ofSeconds(60);

    static List<String> run(Command command) throws Exception {
        Properties config = command.client();
        config.put("isolation.level", command.isolation().name().toLowerCase());
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        config.put("allow.auto.create.topics", false);
        config.put("fetch.max.wait.ms", 50);
        try (KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
             BufferedWriter file = Files.newBufferedWriter(Path.of(command.text("file")))) {
            Collection<TopicPartition> partitions = consumer.partitionsFor(command.topic()).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .collect(Collectors.toList());
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + STUCK.toNanos();
            while (!reached(consumer, ends)) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        file.write(line(record));
                        file.newLine();
                    }
                    deadline = System.nanoTime() + STUCK.toNanos();
                }
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("no record for " + STUCK + ", short of the ends " + ends);
                }
            }
        }
        return List.of();
    }

    /** Not by the records seen: a partition may end with markers, which nobody sees. */
    private static boolean reached(KafkaConsumer<?, ?> consumer, Map<TopicPartition, Long> ends) {
        return ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
    }

    private static String line(ConsumerRecord<byte[], byte[]> record) throws Exception {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.length() == 0 ? "" : ",");
            headers.append(text(header.key().getBytes("UTF-8"))).append('=').append(text(header.value()));
        }
        return String.join("\t", Integer.toString(record.partition()), Long.toString(record.offset()),
            Long.toString(record.timestamp()), record.timestampType().toString(), text(record.key()),
            text(record.value()), headers);
    }

    private static String text(byte[] data) throws Exception {
        if (data == null) {
            return "null";
        }
        if (data.length <= 32) {
            return "x" + HexFormat.of().formatHex(data);
        }
        return data.length + ":" + HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    }
}

package kferry;

import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** {@code produce}: records of a {@link Shape}, each of them acknowledged. */
final class Produce {
    static List<String> run(Command command) throws Exception {
        Shape shape = new Shape(command, 0);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(command, command.text("codec", "none"), null)) {
            for (int i = 0; i < command.number("count"); i++) {
                sent.add(producer.send(shape.next(command.number("first", 0) + i)));
            }
            producer.flush();
        }
        for (Future<RecordMetadata> each : sent) {
            each.get();
        }
        return List.of();
    }

    static KafkaProducer<byte[], byte[]> producer(Command command, String codec, String transactionalId) {
        Properties config = command.client();
        config.put("acks", "all");
        config.put("compression.type", codec);
        config.put("enable.idempotence", command.text("headers", "true")); // Old formats have neither.
        config.put("linger.ms", 1000); // Batches are closed by their size, and by flush at the end.
        config.put("batch.size", command.text("batch", "16384"));
        config.put("max.request.size", 32 << 20);
        config.put("buffer.memory", 64L << 20);
        config.put("delivery.timeout.ms", 60_000);
        config.put("request.timeout.ms", 30_000);
        if (transactionalId != null) {
            config.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }
}

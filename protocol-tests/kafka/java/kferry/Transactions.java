package kferry;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;

/** The commands about transactions; remembers those that a test holds open. */
final class Transactions {
    private static final String[] CODECS = {"none", "zstd", "lz4", "gzip", "snappy"};

    private final Map<String, KafkaProducer<byte[], byte[]>> open = new HashMap<>();

    /** Begins a transaction and writes {@code count} records in it. */
    List<String> begin(Command command) {
        KafkaProducer<byte[], byte[]> producer = Produce.producer(command, "none", command.text("id"));
        open.put(command.text("id"), producer);
        producer.initTransactions();
        producer.beginTransaction();
        send(producer, new Shape(command, 0), command.number("count"));
        return List.of();
    }

    /** Ends a transaction that {@code begin} began, by {@code commit} or {@code abort}. */
    List<String> end(Command command) {
        try (KafkaProducer<byte[], byte[]> producer = open.remove(command.text("id"))) {
            end(producer, command.text("outcome").equals("commit"));
        }
        return List.of();
    }

    /**
     * Several producers take {@code steps} turns by chance: each begins a transaction, adds a few records to it, or ends
     * it, by a third with an abort. Their batches and markers lie between one another's in the log; none stays open.
     */
    List<String> interleave(Command command) {
        Random random = new Random(command.longNumber("seed", 0));
        List<Writer> writers = new ArrayList<>();
        for (int i = 0; i < command.number("producers"); i++) {
            writers.add(new Writer(command, i));
        }
        for (int i = 0; i < command.number("steps"); i++) {
            writers.get(random.nextInt(writers.size())).step(random);
        }
        for (Writer writer : writers) {
            writer.close();
        }
        return List.of();
    }

    private static final class Writer {
        private final KafkaProducer<byte[], byte[]> producer;
        private final Shape shape;
        private boolean inTransaction;

        Writer(Command command, int number) {
            String id = command.topic() + "-" + command.text("seed") + "-" + number;
            producer = Produce.producer(command, CODECS[number % CODECS.length], id);
            producer.initTransactions();
            shape = new Shape(command, number + 1);
        }

        void step(Random random) {
            if (!inTransaction) {
                producer.beginTransaction();
                inTransaction = true;
                send(producer, shape, 1 + random.nextInt(5));
            } else if (random.nextInt(3) > 0) {
                send(producer, shape, 1 + random.nextInt(5));
            } else {
                end(random.nextInt(3) > 0);
            }
        }

        private void end(boolean commit) {
            Transactions.end(producer, commit);
            inTransaction = false;
        }

        void close() {
            if (inTransaction) {
                end(false);
            }
            producer.close();
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, Shape shape, int count) {
        for (int i = 0; i < count; i++) {
            producer.send(shape.next(i));
        }
        producer.flush(); // In the log before anybody else's next step.
    }

    private static void end(KafkaProducer<byte[], byte[]> producer, boolean commit) {
        if (commit) {
            producer.commitTransaction();
        } else {
            producer.abortTransaction();
        }
    }
}

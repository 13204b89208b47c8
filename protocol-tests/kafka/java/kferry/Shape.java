package kferry;

import java.nio.charset.StandardCharsets;
import java.util.Random;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * The records of one produce command. The same seed draws the same records.
 *
 * <p>{@code varied} draws everything that a copy could get wrong: null and empty keys and values, headers in any order,
 * repeated, with null and empty values and with an empty key, sizes of any magnitude, timestamps old and out of order.
 * {@code plain} makes records of one size whose keys are numbers and whose timestamps rise by a millisecond.
 * {@code keyed} is {@code plain} with few keys, each written many times, and now and then a tombstone.
 */
final class Shape {
    private static final long A_MOMENT_IN_2015 = 1_425_000_000_000L;

    private final Command command;
    private final Random random;
    private final int partitions;

    Shape(Command command, long salt) {
        this.command = command;
        random = new Random(command.longNumber("seed", 0) * 1_000_003 + salt);
        partitions = command.number("partitions", 1);
    }

    ProducerRecord<byte[], byte[]> next(int number) {
        switch (command.text("shape", "varied")) {
            case "varied": return varied();
            case "plain": return plain(number, Integer.toString(number), bytes(command.number("size", 100)));
            case "keyed": {
                byte[] value = random.nextInt(10) == 0 ? null : bytes(command.number("size", 100));
                return plain(number, "key-" + random.nextInt(command.number("keys")), value);
            }
            default: throw new IllegalArgumentException("no such shape: " + command.text("shape"));
        }
    }

    private ProducerRecord<byte[], byte[]> plain(int number, String key, byte[] value) {
        int partition = command.number("partition", number % partitions);
        Long timestamp = command.longNumber("timestamp", A_MOMENT_IN_2015) + number;
        return new ProducerRecord<>(command.topic(), partition, timestamp, utf8(key), value);
    }

    private ProducerRecord<byte[], byte[]> varied() {
        int partition = command.number("partition", random.nextInt(partitions));
        return new ProducerRecord<>(command.topic(), partition, timestamp(), data(64), data(4096), headers());
    }

    private Long timestamp() {
        switch (random.nextInt(8)) {
            case 0: return 0L;
            case 1: return System.currentTimeMillis();
            default: return A_MOMENT_IN_2015 + random.nextInt(1_000_000_000);
        }
    }

    private byte[] data(int most) {
        switch (random.nextInt(8)) {
            case 0: return null;
            case 1: return new byte[0];
            case 2: return bytes(1);
            default: return bytes((int) Math.pow(most, random.nextDouble()));
        }
    }

    /** Half of it repeats, so that a codec has something to find. */
    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        byte[] noise = new byte[length / 2 + 1];
        random.nextBytes(noise);
        for (int i = 0; i < length; i++) {
            bytes[i] = i % 4 < 2 ? (byte) 'k' : noise[i / 2];
        }
        return bytes;
    }

    private Headers headers() {
        RecordHeaders headers = new RecordHeaders();
        int count = command.text("headers", "true").equals("true") ? random.nextInt(10) - 5 : 0;
        for (int i = 0; i < count; i++) {
            String[] names = {"b", "a", "trace-id", "", "h\u00e9"}; // Few, so that they repeat.
            headers.add(names[random.nextInt(names.length)], data(40));
        }
        return headers;
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}

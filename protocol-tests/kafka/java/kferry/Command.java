package kferry;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.IsolationLevel;

/** One line from the tests: a verb and named values, separated by tabs. */
final class Command {
    final String verb;
    private final Map<String, String> values = new LinkedHashMap<>();

    Command(String line) {
        String[] fields = line.split("\t", -1);
        verb = fields[0];
        for (int i = 1; i < fields.length; i++) {
            int equals = fields[i].indexOf('=');
            values.put(fields[i].substring(0, equals), fields[i].substring(equals + 1));
        }
    }

    String text(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException(verb + " needs " + name);
        }
        return value;
    }

    String text(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    int number(String name) {
        return Integer.parseInt(text(name));
    }

    int number(String name, int otherwise) {
        return values.containsKey(name) ? number(name) : otherwise;
    }

    long longNumber(String name, long otherwise) {
        return values.containsKey(name) ? Long.parseLong(text(name)) : otherwise;
    }

    String topic() {
        return text("topic");
    }

    IsolationLevel isolation() {
        return IsolationLevel.valueOf(text("isolation").toUpperCase());
    }

    /** What every client of this command's cluster needs to know. */
    Properties client() {
        Properties client = new Properties();
        client.put("bootstrap.servers", text("bootstrap"));
        return client;
    }

    /** The values named {@code config.…}, under their own names. */
    Map<String, String> configs() {
        Map<String, String> configs = new LinkedHashMap<>();
        values.forEach((name, value) -> {
            if (name.startsWith("config.")) {
                configs.put(name.substring("config.".length()), value);
            }
        });
        return configs;
    }
}

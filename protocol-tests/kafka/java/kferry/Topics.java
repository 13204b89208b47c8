package kferry;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RetriableException;

/** The commands about topics rather than records. */
final class Topics {
    static List<String> create(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            NewTopic topic = new NewTopic(command.topic(), Optional.of(command.number("partitions")), Optional.empty());
            admin.createTopics(List.of(topic.configs(command.configs()))).all().get();
            awaitLeaders(admin, command.topic(), command.number("partitions"));
            return List.of();
        }
    }

    static List<String> createPartitions(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            NewPartitions partitions = NewPartitions.increaseTo(command.number("partitions"));
            admin.createPartitions(Map.of(command.topic(), partitions)).all().get();
            awaitLeaders(admin, command.topic(), command.number("partitions"));
            return List.of();
        }
    }

    /**
     * A producer that comes before a new partition's leader can lock itself out: its first batch is refused, its second
     * is taken, since a leader takes any sequence from a producer that it does not know, and the first one is out of
     * order for ever. A leader that answers ListOffsets takes records too.
     */
    private static void awaitLeaders(Admin admin, String topic, int partitions) throws Exception {
        Map<TopicPartition, OffsetSpec> all = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (true) {
            try {
                admin.listOffsets(all).all().get();
                return;
            } catch (ExecutionException e) {
                boolean mayPass = e.getCause() instanceof RetriableException && System.nanoTime() < deadline;
                if (!mayPass) {
                    throw e;
                }
            }
        }
    }

    static List<String> alterConfigs(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            Collection<AlterConfigOp> set = command.configs().entrySet().stream()
                .map(config -> new ConfigEntry(config.getKey(), config.getValue()))
                .map(entry -> new AlterConfigOp(entry, AlterConfigOp.OpType.SET))
                .collect(Collectors.toList());
            admin.incrementalAlterConfigs(Map.of(resource(command), set)).all().get();
            return List.of();
        }
    }

    /** What was set for this topic, as {@code name=value}; defaults are left out. */
    static List<String> configs(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            ConfigResource topic = resource(command);
            return admin.describeConfigs(List.of(topic)).all().get().get(topic).entries().stream()
                .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                .map(entry -> entry.name() + "=" + entry.value())
                .sorted()
                .collect(Collectors.toList());
        }
    }

    /** Every topic, internal ones too, as {@code name partitions}. */
    static List<String> list(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            Collection<String> names = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get();
            return admin.describeTopics(names).allTopicNames().get().values().stream()
                .map(topic -> topic.name() + " " + topic.partitions().size())
                .sorted()
                .collect(Collectors.toList());
        }
    }

    /** For each partition its first offset and its end, as {@code partition first end}. */
    static List<String> offsets(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            Map<TopicPartition, ListOffsetsResultInfo> first = offsets(admin, command, OffsetSpec.earliest());
            Map<TopicPartition, ListOffsetsResultInfo> end = offsets(admin, command, OffsetSpec.latest());
            List<String> answer = new ArrayList<>();
            first.forEach((at, info) ->
                answer.add(at.partition() + " " + info.offset() + " " + end.get(at).offset()));
            return answer;
        }
    }

    private static Map<TopicPartition, ListOffsetsResultInfo> offsets(Admin admin, Command command, OffsetSpec spec)
            throws Exception {
        Map<TopicPartition, OffsetSpec> wanted = partitions(admin, command.topic()).stream()
            .collect(Collectors.toMap(Function.identity(), at -> spec));
        ListOffsetsOptions options = new ListOffsetsOptions(command.isolation());
        Map<TopicPartition, ListOffsetsResultInfo> sorted = new TreeMap<>(
            (a, b) -> Integer.compare(a.partition(), b.partition()));
        sorted.putAll(admin.listOffsets(wanted, options).all().get());
        return sorted;
    }

    static List<String> deleteRecords(Command command) throws Exception {
        try (Admin admin = Admin.create(command.client())) {
            Map<TopicPartition, RecordsToDelete> cut = new HashMap<>();
            cut.put(new TopicPartition(command.topic(), command.number("partition")),
                RecordsToDelete.beforeOffset(command.longNumber("offset", -1)));
            admin.deleteRecords(cut).all().get();
            return List.of();
        }
    }

    private static List<TopicPartition> partitions(Admin admin, String name) throws Exception {
        TopicDescription topic = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        return topic.partitions().stream()
            .map(partition -> new TopicPartition(name, partition.partition()))
            .collect(Collectors.toList());
    }

    private static ConfigResource resource(Command command) {
        return new ConfigResource(ConfigResource.Type.TOPIC, command.topic());
    }
}

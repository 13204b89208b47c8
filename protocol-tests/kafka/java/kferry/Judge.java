package kferry;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * Apache Kafka's own client at the service of the tests: writes what is to be copied and says what is there.
 *
 * <p>Reads one {@link Command} a line from standard input and ends with it. Answers each with any number of lines that
 * start with a tab, then with one line: {@code ok}, or {@code error} and what went wrong.
 */
public final class Judge {
    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err); // What a library prints is no answer.
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Transactions transactions = new Transactions();
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            answer(line, transactions, answers);
        }
        System.exit(0);
    }

    private static void answer(String line, Transactions transactions, PrintStream answers) {
        try {
            for (String answer : carryOut(new Command(line), transactions)) {
                answers.println("\t" + answer);
            }
            answers.println("ok");
        } catch (Exception e) {
            e.printStackTrace();
            answers.println("error " + e.toString().replace('\n', ' '));
        }
        answers.flush();
    }

    private static List<String> carryOut(Command command, Transactions transactions) throws Exception {
        switch (command.verb) {
            case "create-topic": return Topics.create(command);
            case "create-partitions": return Topics.createPartitions(command);
            case "alter-configs": return Topics.alterConfigs(command);
            case "configs": return Topics.configs(command);
            case "topics": return Topics.list(command);
            case "offsets": return Topics.offsets(command);
            case "delete-records": return Topics.deleteRecords(command);
            case "produce": return Produce.run(command);
            case "interleave": return transactions.interleave(command);
            case "begin": return transactions.begin(command);
            case "end": return transactions.end(command);
            case "dump": return Dump.run(command);
            default: throw new IllegalArgumentException("no such command: " + command.verb);
        }
    }
}

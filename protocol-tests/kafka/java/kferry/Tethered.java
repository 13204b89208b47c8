package kferry;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * Runs the main methods of other classes in one process that cannot outlive the one that started it: when standard
 * input ends, because the parent closed it or died, the process halts.
 *
 * <p>Arguments: {@code CLASS ARG... [-- CLASS ARG...]...}. Each class but the last runs on a thread of its own, so that
 * ZooKeeper and the broker that needs it share a process.
 */
public final class Tethered {
    public static void main(String[] args) throws Exception {
        haltWhenInputEnds();
        List<String> command = new ArrayList<>();
        for (String arg : args) {
            if (!arg.equals("--")) {
                command.add(arg);
                continue;
            }
            List<String> aside = command;
            new Thread(() -> runAside(aside), aside.get(0)).start();
            command = new ArrayList<>();
        }
        run(command);
    }

    private static void haltWhenInputEnds() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() != -1) {
                    // The parent has nothing to say; only the end counts.
                }
            } catch (IOException e) {
                // As good as the end.
            }
            Runtime.getRuntime().halt(1);
        }, "tether");
        watch.setDaemon(true);
        watch.start();
    }

    private static void runAside(List<String> command) {
        try {
            run(command);
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    private static void run(List<String> command) throws Exception {
        String[] args = command.subList(1, command.size()).toArray(new String[0]);
        Class.forName(command.get(0)).getMethod("main", String[].class).invoke(null, (Object) args);
    }
}

// Curator's side of `cargo xtask bench zookeeper`: its own InterProcessSemaphoreV2, with as many sessions as are asked for.
// What is said on standard input and output is told in xtask/bench/src/child.rs.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.retry.RetryNTimes;

public final class Bench {
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));
    private static final Map<String, String> OPTIONS = new HashMap<>();
    private static volatile boolean ending;

    public static void main(String[] arguments) throws Exception {
        for (int index = 1; index < arguments.length; index++) {
            String name = arguments[index].substring(2);
            OPTIONS.put(name, name.equals("once") ? "" : arguments[++index]);
        }
        switch (arguments[0]) {
            case "contend":
                if (number("callers", 1) == 1) {
                    one();
                } else {
                    many();
                }
                break;
            case "lost":
                lost();
                break;
            default:
                throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }

    /** One caller alone, whose every request falls into the window. */
    private static void one() throws Exception {
        List<CuratorFramework> clients = connect(1);
        InterProcessSemaphoreV2 semaphore = semaphore(clients.get(0));
        long warm = micros() + 1000L * number("warm-ms", 0);
        for (int index = 0; index < 3 || micros() < warm; index++) {
            cycle(semaphore, 0);
        }
        say("ready");
        heard("go");
        List<long[]> cycles = new ArrayList<>();
        long begin = micros();
        while (micros() < begin + window()) {
            cycles.add(cycle(semaphore, number("work-ms", 0)));
        }
        long end = micros();
        say("end");
        tell(begin, end, cycles);
        heard("close");
        close(clients);
    }

    private static void many() throws Exception {
        List<CuratorFramework> clients = connect(number("sessions", 1));
        Queue<long[]> cycles = new ConcurrentLinkedQueue<>();
        int work = number("work-ms", 0);
        for (int index = 0; index < number("callers", 1); index++) {
            InterProcessSemaphoreV2 semaphore = semaphore(clients.get(index % clients.size()));
            Thread caller = new Thread(() -> {
                try {
                    do {
                        cycles.add(cycle(semaphore, work));
                    } while (!ending && !OPTIONS.containsKey("once"));
                } catch (Exception exception) {
                    if (!ending) {
                        exception.printStackTrace();
                        System.exit(1);
                    }
                }
            });
            caller.setDaemon(true);
            caller.start();
        }
        say("ready");
        heard("go");
        long begin = micros();
        Thread.sleep(window() / 1000);
        long end = micros();
        say("end");
        tell(begin, end, new ArrayList<>(cycles));
        heard("close");
        ending = true;
        close(clients);
    }

    private static void lost() throws Exception {
        CuratorFramework client = connect(1).get(0);
        semaphore(client).acquire();
        client.getConnectionStateListenable().addListener((same, state) -> say(state.name().toLowerCase()));
        say("ready");
        heard("close");
    }

    /** When it was asked for, had, given back, and gone. */
    private static long[] cycle(InterProcessSemaphoreV2 semaphore, int work) throws Exception {
        long asked = micros();
        Lease lease = semaphore.acquire();
        long got = micros();
        if (work > 0) {
            Thread.sleep(work);
        }
        long releasing = micros();
        semaphore.returnLease(lease);
        return new long[] {asked, got, releasing, micros()};
    }

    private static InterProcessSemaphoreV2 semaphore(CuratorFramework client) {
        return new InterProcessSemaphoreV2(client, OPTIONS.get("path"), number("slots", 1));
    }

    private static List<CuratorFramework> connect(int count) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            CuratorFramework client = CuratorFrameworkFactory.newClient(
                    OPTIONS.get("server"), number("session-ms", 10000), 15000, new RetryNTimes(3, 100));
            client.start();
            clients.add(client);
        }
        for (CuratorFramework client : clients) {
            client.blockUntilConnected();
        }
        return clients;
    }

    private static void close(List<CuratorFramework> clients) {
        clients.parallelStream().forEach(CuratorFramework::close);
    }

    private static void tell(long begin, long end, List<long[]> cycles) {
        StringBuilder text = new StringBuilder("{\"begin\":" + begin + ",\"end\":" + end + ",\"cycles\":[");
        String separator = "";
        for (long[] cycle : cycles) {
            if (begin <= cycle[1] && cycle[1] < end) {
                text.append(separator).append('[').append(cycle[0]).append(',').append(cycle[1]).append(',');
                text.append(cycle[2]).append(',').append(cycle[3]).append(']');
                separator = ",";
            }
        }
        say(text.append("]}").toString());
    }

    private static int number(String name, int otherwise) {
        return Integer.parseInt(OPTIONS.getOrDefault(name, Integer.toString(otherwise)));
    }

    private static long window() {
        return (long) (1e6 * Double.parseDouble(OPTIONS.getOrDefault("seconds", "1")));
    }

    private static long micros() {
        return System.nanoTime() / 1000;
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void heard(String word) throws IOException {
        String line = INPUT.readLine();
        if (!word.equals(line)) {
            System.exit(line == null ? 0 : 1);
        }
    }
}

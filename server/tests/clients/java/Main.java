import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.kv.DeleteResponse;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.maintenance.StatusResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** What a Java program does with jetcd. ../README.md says how the test talks to it. */
public final class Main {
    private static final long PATIENCE_SECONDS = 60;
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));

    private final String address;
    private final Client client;
    private final KV kv;

    private Main(String address) {
        this.address = "http://" + address;
        client = Client.builder().endpoints(this.address).retryDelay(100).retryMaxDelay(200).build();
        kv = client.getKVClient();
    }

    public static void main(String[] args) throws Exception {
        Main main = new Main(args[0]);
        main.kv();
        main.txn();
        main.watch();
        main.resume();
        main.compaction();
        main.maintenance();
        main.snapshot();
        System.out.println("== done");
        System.exit(0);
    }

    /** Has the test do something and waits until it is done. */
    private static void ask(String what) throws Exception {
        System.out.println("? " + what);
        if (INPUT.readLine() == null) {
            throw new IllegalStateException("the test is gone");
        }
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, UTF_8);
    }

    private static <T> T get(CompletableFuture<T> future) throws Exception {
        return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    }

    private static void refused(CompletableFuture<?> future) throws Exception {
        try {
            System.out.println("not refused " + get(future));
        } catch (ExecutionException error) {
            System.out.println("refused " + error.getCause());
        }
    }

    private static String pair(KeyValue kv) {
        return kv.getKey() + "=" + kv.getValue() + " " + kv.getCreateRevision() + "/" + kv.getModRevision() + "/" + kv.getVersion();
    }

    private void kv() throws Exception {
        System.out.println("== kv");
        for (int number = 0; number < 5; number++) {
            System.out.println("put " + get(kv.put(bytes("kv/" + number), bytes("value " + number))).getHeader().getRevision());
        }
        PutOption previous = PutOption.builder().withPrevKV().build();
        System.out.println("put over " + pair(get(kv.put(bytes("kv/1"), bytes("other"), previous)).getPrevKv()));
        GetOption[] options = {
            GetOption.builder().isPrefix(true).build(),
            GetOption.builder().isPrefix(true).withLimit(2).withSortField(GetOption.SortTarget.KEY)
                .withSortOrder(GetOption.SortOrder.DESCEND).build(),
            GetOption.builder().isPrefix(true).withKeysOnly(true).build(),
            GetOption.builder().isPrefix(true).withCountOnly(true).build(),
            GetOption.builder().isPrefix(true).withRevision(4).build(),
            GetOption.builder().isPrefix(true).withSerializable(true).build(),
        };
        for (GetOption option : options) {
            GetResponse found = get(kv.get(bytes("kv/"), option));
            System.out.println("get " + found.getKvs().stream().map(Main::pair).collect(Collectors.joining(", ")) + " " + found.getCount()
                + " " + found.isMore());
        }
        DeleteOption range = DeleteOption.builder().withRange(bytes("kv/9")).withPrevKV(true).build();
        DeleteResponse gone = get(kv.delete(bytes("kv/3"), range));
        System.out.println("deleted " + gone.getDeleted() + " " + gone.getPrevKvs().stream().map(Main::pair).collect(Collectors.joining(", ")));
        refused(kv.put(bytes(""), bytes("no key")));
    }

    private void txn() throws Exception {
        System.out.println("== txn");
        for (String expected : new String[] {"other", "something else"}) {
            TxnResponse answer = get(kv.txn()
                .If(new Cmp(bytes("kv/1"), Cmp.Op.EQUAL, CmpTarget.value(bytes(expected))),
                    new Cmp(bytes("none"), Cmp.Op.EQUAL, CmpTarget.version(0)))
                .Then(Op.put(bytes("txn/a"), bytes("then"), PutOption.DEFAULT), Op.get(bytes("kv/1"), GetOption.DEFAULT),
                    Op.delete(bytes("kv/0"), DeleteOption.DEFAULT))
                .Else(Op.put(bytes("txn/b"), bytes("else"), PutOption.DEFAULT))
                .commit());
            System.out.println("txn " + answer.isSucceeded() + " " + answer.getPutResponses().size() + " " + answer.getGetResponses().size()
                + " " + answer.getDeleteResponses().size());
        }
        refused(kv.txn().Then(Op.put(bytes("twice"), bytes("1"), PutOption.DEFAULT), Op.put(bytes("twice"), bytes("2"), PutOption.DEFAULT))
            .commit());
    }

    /** A watch whose events come one after the other. */
    private final class Watched {
        final BlockingQueue<String> seen = new LinkedBlockingQueue<>();
        final Watch.Watcher watcher;

        Watched(String key, WatchOption option) {
            watcher = client.getWatchClient().watch(bytes(key), option,
                response -> response.getEvents().forEach(this::tell), error -> seen.add("error " + error));
        }

        private void tell(WatchEvent event) {
            seen.add("event " + event.getEventType() + " " + pair(event.getKeyValue()) + " before: " + event.getPrevKV().getValue());
        }

        void next() throws Exception {
            System.out.println(seen.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
        }
    }

    private static WatchOption.Builder prefix() {
        return WatchOption.builder().isPrefix(true);
    }

    private void watch() throws Exception {
        System.out.println("== watch");
        // From here on: the watch is created while the program goes on.
        long from = get(kv.get(bytes("none"))).getHeader().getRevision() + 1;
        Watched all = new Watched("watch/", prefix().withPrevKV(true).withRevision(from).build());
        Watched deletes = new Watched("watch/", prefix().withNoPut(true).withRevision(from).build());
        get(kv.put(bytes("watch/a"), bytes("1")));
        get(kv.put(bytes("watch/a"), bytes("2")));
        get(kv.delete(bytes("watch/a")));
        for (int count = 0; count < 3; count++) {
            all.next();
        }
        deletes.next();
        all.watcher.close();
        deletes.watcher.close();
    }

    /** The library goes on by itself after the server was killed. */
    private void resume() throws Exception {
        System.out.println("== resume");
        long from = get(kv.get(bytes("none"))).getHeader().getRevision() + 1;
        Watched watched = new Watched("resume/", prefix().withRevision(from).build());
        for (int number = 0; number < 3; number++) {
            if (number > 0) {
                ask("restart");
            }
            for (boolean done = false; !done;) {
                try {
                    get(kv.put(bytes("resume/" + number), bytes("")));
                    done = true;
                } catch (ExecutionException error) {
                    // On one line: some causes have several, which tell of the library's own sockets.
                    System.out.println("# " + error.getCause().toString().replaceAll("\\R", " "));
                    Thread.sleep(20);
                }
            }
            watched.next();
        }
        watched.watcher.close();
    }

    private void compaction() throws Exception {
        System.out.println("== compaction");
        long revision = get(kv.put(bytes("compaction"), bytes(""))).getHeader().getRevision();
        get(kv.compact(revision, CompactOption.builder().withCompactPhysical(true).build()));
        refused(kv.compact(revision));
        refused(kv.get(bytes("compaction"), GetOption.builder().withRevision(revision - 1).build()));
        new Watched("compaction", WatchOption.builder().withRevision(2).build()).next();
    }

    private void maintenance() throws Exception {
        System.out.println("== maintenance");
        StatusResponse status = get(client.getMaintenanceClient().statusMember(address));
        System.out.println("status " + status.getVersion() + " " + (status.getDbSize() > 0) + " " + (status.getRaftTerm() >= 2));
        System.out.println("hash " + (get(client.getMaintenanceClient().hashKV(address, 0)).getHash() != 0));
        get(client.getMaintenanceClient().defragmentMember(address));
        System.out.println("alarms " + get(client.getMaintenanceClient().listAlarms()).getAlarms().size());
        System.out.println("members " + get(client.getClusterClient().listMember()).getMembers().get(0).getName());
    }

    private void snapshot() throws Exception {
        System.out.println("== snapshot");
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        client.getMaintenanceClient().snapshot(file).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
        byte[] taken = file.toByteArray();
        byte[] sum = MessageDigest.getInstance("SHA-256").digest(Arrays.copyOf(taken, taken.length - 32));
        System.out.println("snapshot " + Arrays.equals(sum, Arrays.copyOfRange(taken, taken.length - 32, taken.length)));
    }
}

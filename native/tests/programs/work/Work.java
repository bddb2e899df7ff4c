import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;

/** Threads that make garbage and keep some of it, for the collectors; each step's sum is the same in every run. */
public class Work {
    static final Map<Integer, List<byte[]>> kept = new ConcurrentHashMap<>();

    static long part(int step, int who) throws Exception {
        Random random = new Random(step * 31L + who);
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        List<byte[]> mine = new ArrayList<>();
        long sum = 0;
        for (int k = 0; k < 60; k++) {
            byte[] block = new byte[4096 + random.nextInt(4096)];
            random.nextBytes(block);
            digest.update(block);
            if (k % 4 == 0)
                mine.add(block);
        }
        for (byte b : digest.digest())
            sum = sum * 257 + b;
        kept.put(step * 4 + who, mine);
        kept.remove((step - 20) * 4 + who);
        return sum;
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        long total = 0;
        for (int step = 0; step < 200; step++) {
            List<Callable<Long>> parts = new ArrayList<>();
            for (int who = 0; who < 4; who++) {
                final int s = step, w = who;
                parts.add(() -> part(s, w));
            }
            for (Future<Long> f : pool.invokeAll(parts))
                total = total * 31 + f.get();
            Thread.sleep(15);
            System.out.println("step " + step + " " + total);
        }
        pool.shutdown();
        System.out.println("end");
    }
}

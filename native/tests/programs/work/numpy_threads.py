"""Four threads that multiply matrices of whole numbers (exact in double precision), a queue between them, BLAS threads beneath."""

import queue
import threading
import time

import numpy as np

STEPS, SIZE = 120, 160


def worker(tasks: queue.Queue, results: queue.Queue) -> None:
    rng = np.random.default_rng(5)
    left = rng.integers(-9, 9, (SIZE, SIZE)).astype(float)
    while (step := tasks.get()) is not None:
        right = np.random.default_rng(step).integers(-9, 9, (SIZE, SIZE)).astype(float)
        results.put((step, float((left @ right).sum() + np.sort(right, axis=None)[::7].sum())))


tasks, results = queue.Queue(), queue.Queue()
threads = [threading.Thread(target=worker, args=(tasks, results)) for _ in range(4)]
for thread in threads:
    thread.start()
total = 0.0
for first in range(0, STEPS, 4):
    for step in range(first, first + 4):
        tasks.put(step)
    for _step, value in sorted(results.get() for _ in range(4)):
        total = (total * 3 + value) % 1000003
    print(f"step {first} {total:.0f}", flush=True)
    time.sleep(0.1)
for _ in threads:
    tasks.put(None)
for thread in threads:
    thread.join()
print("end", flush=True)

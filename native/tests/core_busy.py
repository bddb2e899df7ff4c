"""A Python program that checks itself: threads, asyncio over a TCP connection of its own, a child process on a pipe, timers, files, hashing."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

asked = False
counts = {"thread": 0, "echo": 0, "child": 0}


def ask(*_: object) -> None:
    global asked
    asked = True


def compute() -> None:
    data = os.urandom(1 << 20)
    want = hashlib.sha256(data).digest()
    while not asked:
        assert hashlib.sha256(data).digest() == want
        counts["thread"] += 1
        time.sleep(0.001)


def converse(child: subprocess.Popen) -> None:
    n = 0
    while not asked:
        child.stdin.write(f"{n}\n")
        child.stdin.flush()
        assert int(child.stdout.readline()) == n * n, n
        n += 1
        counts["child"] = n


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line[::-1].strip() + b"\n")
        await writer.drain()


async def echo() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    with open("/tmp/journal", "w") as journal:
        while not asked:
            text = f"message {counts['echo']}".encode()
            writer.write(text + b"\n")
            assert (await reader.readline()).strip() == text[::-1]
            journal.write(text.decode() + "\n")
            counts["echo"] += 1
            before = time.monotonic()
            await asyncio.sleep(0.002)
            assert 0 <= time.monotonic() - before < 30
    writer.close()
    lines = open("/tmp/journal").read().splitlines()
    assert lines == [f"message {k}" for k in range(counts["echo"])], len(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, ask)
    child = subprocess.Popen(
        [sys.executable, "-uc", "import sys\nfor l in sys.stdin: print(int(l) ** 2)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    threads = [threading.Thread(target=compute), threading.Thread(target=converse, args=(child,))]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    asyncio.run(echo())
    for thread in threads:
        thread.join()
    child.stdin.close()
    assert child.wait() == 0 and min(counts.values()) > 3, counts
    print("OK", flush=True)

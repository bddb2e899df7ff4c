"""A redis server under the load of three clients with a model of what it must hold; background saves while it runs."""

import hashlib
import os
import socket
import subprocess
import sys
import time

ROUNDS, PATH = 900, "/tmp/redis.sock"


class Client:
    def __init__(self, unix: bool) -> None:
        kind, address = (socket.AF_UNIX, PATH) if unix else (socket.AF_INET, ("127.0.0.1", 6379))
        self.socket = socket.socket(kind)
        self.socket.connect(address)
        self.reader = self.socket.makefile("rb")

    def send(self, *words: object) -> None:
        parts = [str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))

    def answer(self) -> object:
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return rest if kind == b"+" else None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]

    def ask(self, *words: object) -> object:
        self.send(*words)
        return self.answer()


options = ["--unixsocket", PATH, "--port", "6379", "--bind", "127.0.0.1", "--dir", "/tmp", "--appendonly", "yes", "--save", ""]
server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
while not os.path.exists(PATH):
    assert server.poll() is None
    time.sleep(0.01)
clients = [Client(True), Client(False), Client(False)]
model: dict[str, str] = {}
for number in range(ROUNDS):
    for client in clients:  # pipelined: many commands are under way at a time
        for k in range(100):
            client.send("set", f"key:{k}", hashlib.sha256(f"{number} {k}".encode()).hexdigest())
        client.send("incr", "count")
        client.send("lpush", "list", number)
    for client in clients:
        assert [client.answer() for _ in range(100)] == [b"OK"] * 100
        client.answer()
        client.answer()
    if number % 200 == 10:
        clients[0].ask("bgsave" if number % 400 == 10 else "bgrewriteaof")
    print(f"step {number}", flush=True)
assert clients[0].ask("get", "count") == str(3 * ROUNDS).encode()
assert clients[1].ask("llen", "list") == 3 * ROUNDS
for k in range(100):
    assert clients[2].ask("get", f"key:{k}") == hashlib.sha256(f"{ROUNDS - 1} {k}".encode()).hexdigest().encode()
clients[0].send("shutdown", "nosave")
assert server.wait(60) == 0
print("end", flush=True)
sys.exit(0)

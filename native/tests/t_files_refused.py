#!/usr/bin/env python3
"""What cannot be captured is refused by its name and the program runs on unharmed: kernel objects of every kind that a job can get hold of and no
image holds (`native check` names them while the job runs), and states that pass by themselves but do not pass here (exit 75).

COVERAGE: AIO contexts, io_setup (only in pods that allow it) | refused | asynchronous I/O (AIO)
COVERAGE: fanotify | refused | kernel object that cannot be captured: [fanotify]
COVERAGE: io_uring (only in pods that allow it) | refused | kernel object that cannot be captured: [io_uring]
COVERAGE: secret memory (memfd_secret) | refused | secret memory (memfd_secret)
COVERAGE: vsock | refused | a socket to the virtual machine's host (vsock)
COVERAGE: packet sockets of a namespace in which no process of the job is any more | refused | a packet socket
COVERAGE: packet sockets with rings of their own (PACKET_RX_RING) in a network namespace that the job made | refused | a packet socket with rings of its own
COVERAGE: packet sockets that share their packets (PACKET_FANOUT) there | refused | a packet socket that shares its packets (PACKET_FANOUT)
COVERAGE: sockets that speak for any address (IP_TRANSPARENT) there | refused | a socket that speaks for any address (IP_TRANSPARENT)
COVERAGE: packets that a raw or packet socket has not read yet (waited for) | refused | a raw socket with packets that were not read yet
COVERAGE: sockets of a network namespace in which no process of the job is any more | refused | a socket of another network namespace
COVERAGE: directory notifications (F_NOTIFY) | refused | a directory with notifications by signal (F_NOTIFY)
COVERAGE: leases for writing on files without a name | refused | a lease for writing (F_SETLEASE) on a file without a name
COVERAGE: leases for writing on mapped files | refused | a lease for writing (F_SETLEASE) on a file that is mapped
COVERAGE: lease that is being taken back (waited for) | refused | a lease (F_SETLEASE) that is being taken back
COVERAGE: System V semaphores with SEM_UNDO | refused | it may have used System V semaphores with SEM_UNDO
COVERAGE: Multipath TCP connections | refused | a connection of Multipath TCP
COVERAGE: TCP with ECN | refused | a TCP connection that negotiated ECN
COVERAGE: TCP_MD5SIG | refused | a TCP socket that signs its segments (TCP_MD5SIG)
COVERAGE: socket in a network namespace that the job made, whose address is gone | refused | a socket of an address that its network namespace has no more
COVERAGE: POSIX message queue with a notification | refused | a POSIX message queue that notifies a process
COVERAGE: directory half read, in the root or on other file systems (waited for) | refused | a directory that is half read
COVERAGE: corked UDP data (waited for) | refused | a UDP socket with data that was not sent yet (corked)
COVERAGE: urgent data (waited for) | refused | a socket with urgent data that was not read yet
COVERAGE: epoll sets, inotify, pidfds, files of /proc and locked files on their way in a message (waited for) | refused | on its way (SCM_RIGHTS) that cannot be captured there
COVERAGE: TCP connections not accepted (waited for) | refused | a TCP connection that was not accepted yet
COVERAGE: empty datagram that stays in its queue for a second snapshot (waited for) | refused | a socket with an empty datagram that an earlier snapshot has seen
COVERAGE: notices of a TCP socket's error queue (waited for) | refused | a TCP socket with notices in its error queue
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pod_lab import Lab, finish, last, native, ok, read_state, until

BEGINNING = """
import array, ctypes, errno, fcntl, os, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
class Told:  # no threading.Event: a handler that sets one waits for ever where it has interrupted a wait for it
    on = False
    def set(self, *_): self.on = True
    def wait(self, seconds=5):
        end = time.monotonic() + seconds
        while not self.on and time.monotonic() < end: time.sleep(0.005)
        return self.on
asked, told = Told(), Told()
signal.signal(signal.SIGUSR1, asked.set)
def syscall(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0: raise OSError(ctypes.get_errno(), "syscall %d" % args[0])
    return result
def await_file(path):
    while not os.path.exists(path): time.sleep(0.002)
def listener(protocol=0):
    l = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol); l.bind(("127.0.0.1", 0)); l.listen(5); return l
def joined(protocol=0):
    l = listener(protocol); c = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol); c.connect(l.getsockname()); return l, c, l.accept()[0]
"""
ENDING = """
print("ready", flush=True)
while not asked.wait(0.01): pass
verify()
print("OK", flush=True)
"""
FROM_ANOTHER = """
here, there = socket.socketpair()
if os.fork() == 0:
    syscall(272, 0x10000000 | 0x40000000)  # CLONE_NEWUSER, CLONE_NEWNET
    s = socket.socket(*KIND)
    socket.send_fds(there, [b"x"], [s.fileno()]); os._exit(0)
got = socket.recv_fds(here, 1, 1)[1][0]; os.wait()
def verify(): os.fstat(got)
"""


@dataclass
class Case:
    name: str
    words: str
    source: str
    passing: bool = False  # it could pass by itself: not named by check, exit 75
    unseen: bool = False  # shows in the pause only: not named by check, but no reason to try again
    options: tuple[object, ...] = field(default=())
    ecn: bool = False


CASES = [
    Case("aio", "asynchronous I/O (AIO)", "c = ctypes.c_ulong(0); syscall(206, 4, ctypes.byref(c))\ndef verify(): syscall(207, c.value)", options=("--io-uring", "allow")),
    Case("fanotify", "[fanotify]", "f = syscall(300, 0x200, 0)\ndef verify(): os.close(f)"),
    Case("uring", "[io_uring]", "f = syscall(425, 4, ctypes.create_string_buffer(120))\ndef verify(): os.close(f)", options=("--io-uring", "allow")),
    Case("secret", "secret memory (memfd_secret)", "f = syscall(447, 0)\ndef verify(): os.close(f)"),
    Case("vsock", "a socket to the virtual machine's host (vsock)", "s = socket.socket(40, 1)\ndef verify(): s.close()"),
    Case("packet", "a packet socket", "KIND = (17, 3, 0)" + FROM_ANOTHER),
    Case("elsewhere", "a socket of another network namespace", "KIND = (2, 2, 0)" + FROM_ANOTHER),
    Case("dnotify", "a directory with notifications by signal (F_NOTIFY)", """
signal.signal(signal.SIGIO, told.set)
f = os.open("/tmp", os.O_RDONLY); fcntl.fcntl(f, fcntl.F_NOTIFY, fcntl.DN_CREATE)
def verify(): open("/tmp/new", "w"); assert told.wait()"""),
    Case("lease", "a lease for writing (F_SETLEASE) on a file without a name", """
f = os.open("/tmp/leased", os.O_RDWR | os.O_CREAT); os.unlink("/tmp/leased"); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
def verify(): assert fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK"""),
    Case("mapped", "a lease for writing (F_SETLEASE) on a file that is mapped", """
import mmap
f = os.open("/tmp/leased", os.O_RDWR | os.O_CREAT); os.write(f, b"x"); m = mmap.mmap(f, 1); os.close(f)
f = os.open("/tmp/leased", os.O_RDWR); m = mmap.mmap(f, 1); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
def verify(): assert fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK and m[:1] == b"x" """),
    Case("breaking", "a lease (F_SETLEASE) that is being taken back", """
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open("/tmp/leased", os.O_RDWR | os.O_CREAT); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
pid = os.fork()
if pid == 0: os.close(f); os.open("/tmp/leased", os.O_RDONLY); os._exit(7)
while fcntl.fcntl(f, fcntl.F_GETLEASE) == fcntl.F_WRLCK: time.sleep(0.001)
def verify(): fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_UNLCK); assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7""", passing=True),
    Case("undo", "it may have used System V semaphores with SEM_UNDO", """
s = syscall(64, 0, 1, 0o600); syscall(65, s, struct.pack("hhh", 0, 1, 0x1000), 1)
def verify(): assert syscall(66, s, 0, 12, 0) == 1"""),
    Case("multipath", "a connection of Multipath TCP", "l, c, s = joined(262)\ndef verify(): c.sendall(b'x'); assert s.recv(1) == b'x'"),
    Case("ecn", "a TCP connection that negotiated ECN", "await_file('/tmp/go'); l, c, s = joined()\ndef verify(): c.sendall(b'x'); assert s.recv(1) == b'x'", ecn=True),
    Case("rings", "a packet socket with rings of its own", """
syscall(272, 0x10000000 | 0x40000000); s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); s.setsockopt(263, 5, struct.pack("IIII", 4096, 1, 2048, 2))
def verify(): s.close()""", unseen=True),
    Case("fanout", "a packet socket that shares its packets (PACKET_FANOUT)", """
import fcntl
syscall(272, 0x10000000 | 0x40000000); s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", 0x41)); s.bind(("lo", 0x800)); s.setsockopt(263, 18, 7)
def verify(): s.close()""", unseen=True),
    Case("any", "a socket that speaks for any address (IP_TRANSPARENT)", """
syscall(272, 0x10000000 | 0x40000000); s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 19, 1)
def verify(): s.close()"""),
    Case("unread", "a raw socket with packets that were not read yet", """
import fcntl
syscall(272, 0x10000000 | 0x40000000); s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", 0x41)); s.sendto(b"x", ("127.0.0.1", 0))
def verify(): assert len(s.recv(99)) == 21""", passing=True),
    Case("gone", "a socket of an address that its network namespace has no more", """
import fcntl
syscall(272, 0x10000000 | 0x40000000)
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", b"lo", 0x41)); u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0))
    fcntl.ioctl(s, 0x8916, struct.pack("16sHH4s16x", b"lo", 2, 0, socket.inet_aton("10.9.9.9")))
def verify(): u.getsockname()""", unseen=True),
    Case("md5", "a TCP socket that signs its segments (TCP_MD5SIG)", """
l = listener(); key = struct.pack("HH4s120x", 2, 0, socket.inet_aton("127.0.0.1")) + struct.pack("BBH i 80s", 0, 0, 3, 0, b"key")
l.setsockopt(6, 14, key)
def verify(): l.close()"""),
    Case("notify", "a POSIX message queue that notifies a process", """
q = syscall(240, b"q", 0o102, 0o600, None); syscall(244, q, struct.pack("Qii 48x", 0, signal.SIGUSR2, 0))
signal.signal(signal.SIGUSR2, told.set)
def verify(): syscall(242, q, b"x", 1, 0, None); assert told.wait()"""),
    Case("half", "a directory that is half read", """
os.mkdir("/var/tmp/d"); [open("/var/tmp/d/%d" % i, "w").close() for i in range(200)]
f = os.open("/var/tmp/d", os.O_RDONLY); room = ctypes.create_string_buffer(1000); syscall(217, f, room, 1000)
def verify():
    while syscall(217, f, room, 1000): pass""", passing=True),
    Case("cork", "a UDP socket with data that was not sent yet (corked)", """
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0)); b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
b.connect(a.getsockname()); b.send(b"one", 0x8000)
def verify(): b.send(b"two"); assert a.recv(10) == b"onetwo" """, passing=True),
    Case("urgent", "a socket with urgent data that was not read yet", "l, c, s = joined(); c.send(b'!', socket.MSG_OOB)\ndef verify(): assert s.recv(1, socket.MSG_OOB) == b'!'", passing=True),
    Case("rights", "on its way (SCM_RIGHTS) that cannot be captured there", """
import select
a, b = socket.socketpair(); r, w = os.pipe(); p = select.epoll(); p.register(r, select.EPOLLIN); socket.send_fds(a, [b"x"], [p.fileno()]); p.close()
def verify(): p = select.epoll.fromfd(socket.recv_fds(b, 1, 1)[1][0]); os.write(w, b"y"); assert p.poll(1) == [(r, 1)]""", passing=True),
    Case("accept", "a TCP connection that was not accepted yet", "l = listener(); c = socket.create_connection(l.getsockname()); c.sendall(b'x')\ndef verify(): assert l.accept()[0].recv(1) == b'x'", passing=True),
    Case("notices", "a TCP socket with notices in its error queue", """
l, c, s = joined(); c.setsockopt(1, 60, 1); c.send(b"x", 0x4000000); assert s.recv(1) == b"x"
def verify(): assert c.recvmsg(100, 100, socket.MSG_ERRQUEUE)""", passing=True),
]


class Trial:
    def __init__(self, lab: Lab, case: Case) -> None:
        self.lab, self.case, self.pod, self.out = lab, case, lab.pod(case.name), lab.dir / f"{case.name}.out"

    def start(self) -> str:
        source = BEGINNING + self.case.source + "\n" + ENDING
        answer = last(native("run", "--pod", self.pod, "--uid", 1000, "--gid", 1000, "--stdout", self.out, "--stderr", self.out, *self.case.options,
                             "--", "/usr/bin/python3", "-c", source))
        if answer["event"] != "done":
            return f"does not start: {answer}"
        if self.case.ecn:
            init = read_state(self.pod)["init_pid"]
            subprocess.run(["nsenter", "-t", init, "-n", "sysctl", "-qw", "net.ipv4.tcp_ecn=1"], check=True)
            native("exec", "--pod", self.pod, "--", "/bin/touch", "/tmp/go")
        return "" if until(lambda: "ready" in self.out.read_text(), 30) else f"is not ready: {self.out.read_text()}"

    def check(self) -> str:
        said = native("check", "--pod", self.pod).stdout.decode()
        named = self.case.words in said
        return "" if named != (self.case.passing or self.case.unseen) or self.case.name == "mapped" else f"check: {said}"

    def snapshot(self) -> str:
        answer = last(native("snapshot", "--pod", self.pod, "--image", self.lab.dir / f"{self.case.name}.image", "--store", self.lab.dir / "store"))
        exit_code = 75 if self.case.passing else 69
        good = answer["event"] == "failed" and answer["exit"] == exit_code and self.case.words in answer["message"]
        return "" if good else f"snapshot: {answer}"

    def runs_on(self) -> str:
        native("kill", "--pod", self.pod, "--signal", 10)
        answer = last(native("wait", "--pod", self.pod, "--timeout", 30))
        said = self.out.read_text()
        return "" if answer.get("exit_status") == 0 and said.endswith("OK\n") else f"runs on: {answer} {said}"

    def whole(self) -> str:
        try:
            return self.start() or self.check() or self.snapshot() or self.runs_on()
        except Exception as error:  # a test that fails must say which
            return repr(error)


EMPTY = Case("empty", "a socket with an empty datagram that an earlier snapshot has seen", """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); [a.send(x) for x in (b"one", b"", b"two")]
def verify(): assert [b.recv(9) for _ in range(3)] == [b"one", b"", b"two"]""", passing=True)


def empty_datagrams(lab: Lab) -> str:
    """The first image has it; a second would lack it, and is refused; what the first brings back has it."""
    trial, image = Trial(lab, EMPTY), lab.dir / "first.image"
    store = ("--store", lab.dir / "store")
    why = trial.start()
    taken = last(native("snapshot", "--pod", trial.pod, "--image", image, *store))
    why = why or ("" if taken["event"] == "done" else f"first snapshot: {taken}") or trial.snapshot() or trial.runs_on()
    trial.pod = lab.pod("empty-again")
    trial.out.write_text("")
    last(native("restore", "--pod", trial.pod, "--image", image, *store, "--stdout", trial.out, "--stderr", trial.out))
    return why or trial.runs_on()


def main() -> int:
    wanted = sys.argv[1:]
    cases = [case for case in CASES if not wanted or case.name in wanted]
    with Lab() as lab, ThreadPoolExecutor(12) as pool:
        for case, why in zip(cases, pool.map(lambda case: Trial(lab, case).whole(), cases), strict=True):
            ok(not why, f"{case.name}: refused as \"{case.words}\", and it runs on", why)
        if not wanted or "empty" in wanted:
            why = empty_datagrams(lab)
            ok(not why, "an empty datagram is in the first image, and no second one is taken without it", why)
    return finish()


if __name__ == "__main__":
    sys.exit(main())

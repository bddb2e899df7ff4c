#!/usr/bin/env python3
"""What cannot be captured is refused by name: one pod in which each row of REFUSED is a process of its own; `native check` must name each with its
process and the row's words, `native snapshot` must refuse the pod, and nobody may notice. Rows go to docs/coverage.md.
What this kernel does not have is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pod_lab import Lab, finish, last, native, ok, until

# (kernel object, what the engine says, Python that makes one: l is the C library, keep(fd) fails on an error)
REFUSED = (
    ("userfaultfd", "kernel object that cannot be captured: [userfaultfd]", "keep(l.syscall(323, 1 | 0o2000000))"),
    ("perf event", "kernel object that cannot be captured: [perf_event]", "a = bytearr(128); a[0] = 1; a[4] = 128; a[40] = 0x60; keep(l.syscall(298, a, 0, -1, -1, 0))"),
    ("Landlock rule set", "kernel object that cannot be captured: [landlock-ruleset]", "a = bytearr(8); a[0] = 4; keep(l.syscall(444, a, 8, 0))"),
    ("FUSE, ramfs, loop devices and other file systems that the job mounts", "it made a namespace of its own (mnt): a file system of type ramfs", "keep(l.unshare(0x10020000)); keep(l.mount(b'r', b'/tmp', b'ramfs', 0, None))"),
    ("overlay of the job whose layers are not at their paths any more", "it made a namespace of its own (mnt): an overlay whose layer is not to be found:", "overlay('/tmp/moved/'); os.rename('/tmp/moved/u', '/tmp/moved/x')"),
    ("overlay of the job at whose layers' paths something else stands now", "an overlay that shows something else than its layers by their paths, at", "overlay('/tmp/other/'); os.rename('/tmp/other/u', '/tmp/other/x'); os.rename('/tmp/other/n', '/tmp/other/u')"),
    ("overlay of the job with options that it could not be given again", "an overlay that was mounted with", "overlay('/tmp/meta/', ',userxattr,volatile')"),
    ("process namespace that the job made", "it made a namespace of its own (pid_for_children)", "keep(l.unshare(0x30000000)); os.fork() or signal.pause()"),
    ("IPC namespace that the job made, with POSIX queues", "it made a namespace of its own (ipc): POSIX message queues in it", "keep(l.unshare(0x18000000)); named(); keep(l.mq_open(b'/q', 0o102, 0o600, None)); os.closerange(3, 9)"),
    ("network devices of other kinds in a network namespace that the job made", "it made a namespace of its own (net): the network device d0 of kind ifb", "keep(l.unshare(0x50000000)); device(b'ifb')"),
    ("veth pair with its ends in two network namespaces", "whose other end is in another network namespace", "keep(l.unshare(0x50000000)); apart()"),
    ("nftables rules of connection tracking (ct, nat) in a network namespace that the job made", "it made a namespace of its own (net): nftables rules with the expression ct", "keep(l.unshare(0x50000000)); tracked()"),
    ("options of network devices that no table of the engine knows", "it made a namespace of its own (net): attribute 41 of the network device d0 in it that cannot be made anew", "keep(l.unshare(0x50000000)); device(b'bridge', option=attribute(41, (30000).to_bytes(4, sys.byteorder)))"),
    ("one file system of the job in two of its mount namespaces", "is mounted in another namespace of the job too", "keep(l.unshare(0x10020000)); keep(l.mount(b't', b'/tmp', b'tmpfs', 0, None)); os.fork() and signal.pause(); keep(l.unshare(0x20000))"),
    ("mounts of the job that are peers (shared subtrees)", "takes part in what is mounted elsewhere", "keep(l.unshare(0x10020000)); keep(l.mount(None, b'/', None, 0x104000, None)); keep(l.mount(b'/run', b'/tmp', None, 0x1000, None))"),
    ("descriptor of a namespace", "kernel object that cannot be captured: net:[", "os.open('/proc/self/ns/net', os.O_RDONLY)"),
    ("clock namespace that the job made", "it made a namespace of its own (time_for_children)", "keep(l.unshare(0x10000080))"),
    ("memory shared between processes (CLONE_VM without CLONE_VFORK)", "it shares its memory with its parent process (CLONE_VM)", "vm()"),
)
BODY = """
import ctypes, os, signal, socket, sys, time
l = ctypes.CDLL(None, use_errno=True)
l.syscall.restype = l.mmap.restype = ctypes.c_long
l.mmap.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def bytearr(n):
    return (ctypes.c_ubyte * n)()
def keep(fd):
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def vm():
    stack, entry = ctypes.create_string_buffer(65536), ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    fn = ctypes.cast(l.pause, ctypes.c_void_p)
    globals()['held'] = stack
    keep(l.clone(fn, ctypes.c_void_p(ctypes.addressof(stack) + 65536 - 64), 0x100 | 17, None))
def named():
    for name, text in (('setgroups', 'deny'), ('uid_map', '0 1000 1'), ('gid_map', '0 1000 1')):
        with open('/proc/self/' + name, 'w') as f:
            f.write(text)
def attribute(number, data):
    import struct
    return struct.pack('HH', 4 + len(data), number) + data + bytes(-len(data) % 4)
def device(kind, option=b'', more=b''):
    import struct
    body = bytes(16) + attribute(3, b'd0' + bytes(1)) + attribute(18, attribute(1, kind + bytes(1)) + more) + option
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(struct.pack('IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)
        error = -struct.unpack_from('i', s.recv(4096), 16)[0]
    if error:
        raise OSError(error, os.strerror(error))
def overlay(d, more=',userxattr'):
    for name in 'luwmn':
        os.makedirs(d + name)
    open(d + 'u/file', 'w').close()
    keep(l.unshare(0x10020000))
    named()
    keep(l.mount(b'o', (d + 'm').encode(), b'overlay', 0, ('lowerdir=%sl,upperdir=%su,workdir=%sw%s' % (d, d, d, more)).encode()))
def apart():
    r, w = os.pipe()
    child = os.fork()
    if not child:
        keep(l.unshare(0x40000000))
        os.write(w, b'x')
        signal.pause()
    os.read(r, 1)
    os.close(r), os.close(w)
    device(b'veth', more=attribute(2, attribute(1, bytes(16) + attribute(3, b'p0' + bytes(1)) + attribute(19, child.to_bytes(4, sys.byteorder)))))
def tracked():
    import struct
    def message(kind, *parts, res=0):
        body = struct.pack('>BBH', 1 if kind > 255 else 0, 0, res) + b''.join(parts)
        return struct.pack('IHHII', 16 + len(body), kind, 0x401, 1, 0) + body
    names, ct = attribute(1, b't' + bytes(1)), attribute(1, b'ct' + bytes(1)) + attribute(2, attribute(1, struct.pack('>I', 1)) + attribute(2, bytes(4)))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
        s.send(message(16, res=10) + message(0xa00, names) + message(0xa03, names, attribute(3, b'c' + bytes(1))) +
               message(0xa06, names, attribute(2, b'c' + bytes(1)), attribute(4, attribute(1, ct))) + message(17, res=10))
        s.setblocking(False)
        try:
            error = -struct.unpack_from('i', s.recv(4096), 16)[0]
        except BlockingIOError:
            return
    raise OSError(error, os.strerror(error))
rows = {rows!r}
for number, code in enumerate(rows):
    if os.fork() == 0:
        try:
            exec(code)
            print('row', number, os.getpid(), flush=True)
        except Exception as error:
            print('row', number, 0, type(error).__name__, error, flush=True)
            os._exit(0)
        while True:
            signal.pause()
print('all', flush=True)
while True:
    signal.pause()
"""


def said(out: Path) -> dict[int, list[str]]:
    lines = [line.split(" ", 3) for line in out.read_text().splitlines() if line.startswith("row ")]
    return {int(words[1]): words[2:] for words in lines}


def check_words(lab: Lab, answer: dict[str, object]) -> None:
    """The same answer in words, for the pod and for one of its processes by this machine's number."""
    first = answer["obstacles"][0]  # type: ignore[index]
    outer = last(native("pid", "--pod", lab.pod("odd"), first["pid"], "--inside"))["pid"]
    told = native("check", lab.pod("odd"))
    lines = told.stdout.decode().splitlines()
    good = told.returncode == 69 and len(lines) == 1 + len(answer["obstacles"]) and all(o["words"] in told.stdout.decode() for o in answer["obstacles"])  # type: ignore
    ok(good, "check POD says it in words, a line each", told.stdout)
    told = native("check", outer)
    mine = [line for line in told.stdout.decode().splitlines()[1:] if line.startswith(f"  process {first['pid']} (python3, {outer} on this machine)")]
    ok(told.returncode == 69 and len(mine) >= 1 and "other processes of the pod" in told.stdout.decode(), "check PID says what concerns that process", told.stdout)
    ok(last(native("check", os.getpid())).get("code") == "NO_INPUT", "check of a process in no pod says so")


def check_all(lab: Lab, rows: list[tuple[str, str, str]], options: tuple[object, ...]) -> None:
    out = lab.dir / "out"
    body = BODY.replace("{rows!r}", repr([code for _, _, code in rows]))
    made = lab.run("odd", "/usr/bin/python3", "-c", body, options=(*options, "--uid", 1000, "--gid", 1000, "--stdout", out, "--stderr", out))
    there = made.get("event") == "done" and until(lambda: len(said(out)) == len(rows), 30)
    ok(there, "a pod with one of each", (made, out.read_text() if out.exists() else ""))
    answer = last(native("check", "--pod", lab.pod("odd")))
    for number, (thing, words, _) in enumerate(rows):
        pid, *why = said(out).get(number, ["0", "nothing"])
        if pid == "0":
            print(f"# not there on this machine: {thing} ({' '.join(why)})", flush=True)
            continue
        found = [o for o in answer.get("obstacles", []) if words in o["words"] and o["pid"] >= int(pid)]
        ok(bool(found) and answer.get("checkpointable") is False, f"check names: {thing}", [o for o in answer.get("obstacles", []) if str(o["pid"]) == pid] or answer)
    check_words(lab, answer)
    taken = last(native("snapshot", "--pod", lab.pod("odd"), "--image", lab.dir / "image"))
    ok(taken.get("code") == "UNSUPPORTED" and not (lab.dir / "image" / "manifest").exists(), "snapshot refuses the pod", taken)
    again = last(native("check", "--pod", lab.pod("odd")))
    same = sorted(map(str, again.get("obstacles", []))) == sorted(map(str, answer.get("obstacles", [])))
    ok(same and lab.stat("odd").get("state") == "running" and not (lab.pod("odd") / "journal").exists(), "and nothing was touched")


def main() -> int:
    with Lab() as lab:
        check_all(lab, list(REFUSED), ())
    return finish()


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root")
    sys.exit(main())

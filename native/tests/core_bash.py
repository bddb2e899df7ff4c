"""Runs an interactive shell on a pseudo terminal: a job that was stopped, one in the foreground; then ends and resumes them as a user would.
Arguments: the command that starts the shell."""

import os
import pty
import select
import signal
import sys

asked: list[int] = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
heard = b""


def hear(what: bytes) -> None:
    global heard
    while what not in heard:
        if not select.select([terminal], [], [], 20)[0]:
            print("FAIL", what, heard, flush=True)
            sys.exit(1)
        heard += os.read(terminal, 4096)
    heard = heard[heard.index(what) + len(what) :]


def say(text: str) -> None:
    os.write(terminal, text.encode())


say("PS1='wa''iting> '; set +o history\n")
hear(b"waiting> ")
say("sh -c 'echo it ru''ns; exec sleep 1000'\n")
hear(b"it runs")
say("\x1a")
hear(b"Stopped")
hear(b"waiting> ")
say("x=41; stty -echo; cat\n")
say("first\n")
hear(b"first")
print("ready", flush=True)
while not asked:
    if select.select([terminal], [], [], 0.02)[0]:
        heard += os.read(terminal, 4096)
say("second\n")
hear(b"second")
say("\x04")
hear(b"waiting> ")
say("echo $((x + 1)); jobs; kill %1; exit\n")
hear(b"42")
hear(b"sleep 1000")
say("exit\n")
while True:
    try:
        if not os.read(terminal, 4096):
            break
    except OSError:
        break
os.waitpid(pid, 0)
print("OK", flush=True)

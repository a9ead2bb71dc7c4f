"""A terminal to run the command on."""

import os
import pty
import sys


def on_a_terminal(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Runs the command on a terminal of its own; its exit code and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "couchdiscover", *arguments], environment)
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other side was closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

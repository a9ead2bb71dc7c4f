"""``python -m couchdiscover``, and the console scripts."""

import gc
import os
import sys
from contextlib import suppress


def main() -> None:
    """Runs the command line, and ends the process at once.

    Without the interpreter's own end: a thread that was given up may be in the midst of OpenSSL,
    which would be taken down under it, and the exit code would be that of a crash.
    """
    # What is imported stays to the end. Looking through it for garbage, again and again, took a
    # fifth of a run that finds everything done.
    gc.disable()
    from couchdiscover.cli.app import main as run

    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        code = 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # whoever read them may be gone
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

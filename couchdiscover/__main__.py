"""``python -m couchdiscover``, and the console script."""

import gc
import sys

from couchdiscover import __version__
from couchdiscover.frontpage import PAGE

AT_ONCE = {"--version": f"couchdiscover {__version__}\n", "--help": PAGE, "-h": PAGE}
"""What is asked for alone, and answered without importing anything."""


def main() -> None:
    """Runs the command line."""
    match sys.argv[1:]:
        case [option] if option in AT_ONCE:
            sys.stdout.write(AT_ONCE[option])
            return
    # What is imported stays to the end. Looking through it for garbage, again and again and once
    # more on leaving, took a fifth of a run that finds everything done.
    gc.disable()
    from couchdiscover.cli.app import main as run

    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()

"""``python -m couchdiscover``, and the console scripts."""

import gc


def main() -> None:
    """Runs the command line."""
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

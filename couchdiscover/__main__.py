"""``python -m couchdiscover``, and the console script."""


def main() -> None:
    """Runs the command line."""
    from couchdiscover.cli import main as run

    run()


if __name__ == "__main__":
    main()

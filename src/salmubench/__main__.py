"""The entry point: a Ctrl-C ends in one sentence even while the command line is still being imported."""

import sys


def main() -> None:
    """Runs the command line."""
    try:
        from salmubench.cli import main as run

        run()
    except KeyboardInterrupt:
        print("Stopped before anything began; run the same command again.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

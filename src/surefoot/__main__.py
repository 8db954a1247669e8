"""The `surefoot` command, also as `python -m surefoot`."""

import signal
import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from surefoot.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"The surefoot command needs {error.name}: pip install 'surefoot[cli]'")
    try:
        app()
    finally:
        # On the way out Ctrl-C changes nothing but the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()

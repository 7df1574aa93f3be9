"""`python -m memsolve`, and the command memsolve: an interruption is one line, from any place."""

import sys

from memsolve import startup

INTERRUPTED = 130


def main() -> None:
    """Run the command line; while it is still being imported, too, it can be interrupted."""
    startup.leave_current_folder()  # before anything that lies in files is imported
    import signal
    from contextlib import suppress

    try:
        startup.replace_what_cannot_be_shown()
        startup.import_matplotlib()
        from memsolve.cli import run_command
        from memsolve.output import close

        status = close(run_command(sys.argv[1:]))
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would interrupt the leaving
        with suppress(OSError):  # of a terminal that is gone
            print(f"memsolve: interrupted; {_advice(sys.argv[1:])}", file=sys.stderr)
    sys.exit(status)


def _advice(words: list[str]) -> str:
    """What the command at hand can do."""
    if not words or words[0].startswith("-"):
        return "run it again"
    if words[0] == "report":
        return "no file is half-written; run it again"
    return "what is measured is kept, and the study goes on with --resume"


if __name__ == "__main__":
    main()

"""`python -m memsolve`, and the command memsolve: an interruption is one line, from any place."""

import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; while it is still being imported, too, it can be interrupted."""
    try:
        from memsolve.cli import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would interrupt the leaving
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

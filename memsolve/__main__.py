"""`python -m memsolve` and the command `memsolve`; an interruption prints one line, always."""

import os
import sys

from memsolve import startup

INTERRUPTED = 130


def main() -> None:
    """Run the command line. It can be interrupted even while it is being imported."""
    startup.leave_current_folder()  # before any import that a file could shadow
    import signal
    from contextlib import suppress

    try:
        startup.leave_interrupts_to_first_rank()
        startup.replace_unencodable()
        status = _run_on_ranks(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would interrupt the exit
        with suppress(OSError):  # the terminal may be gone
            print(f"memsolve: interrupted; {_advice(sys.argv[1:])}", file=sys.stderr)
    if status and startup.number_of_ranks() > 1:
        os._exit(status)  # all is flushed; to unload torch takes a second, in which ranks wait
    sys.exit(status)


def _run_on_ranks(arguments: list[str]) -> int:
    """Run the command line; of several ranks on the first, which the others serve."""
    if startup.number_of_ranks() == 1:
        return _run(arguments)
    from memsolve.ranks.start import run_on_first_rank

    return run_on_first_rank(lambda: _run(arguments)) or 0


def _run(arguments: list[str]) -> int:
    """Run the command line, and return the exit status."""
    if arguments == ["--version"]:
        from memsolve.version import print_version

        if print_version():
            return 0  # otherwise the code below says why not
    startup.import_matplotlib()
    from memsolve.cli import run_command
    from memsolve.output import close

    return close(run_command(arguments))


def _advice(arguments: list[str]) -> str:
    """How the user can go on after an interruption."""
    if not arguments or arguments[0].startswith("-"):
        return "run it again"
    if arguments[0] in ("report", "spectrum") or arguments[1:2] == ["verify"]:
        return "no file is half-written; run it again"
    return "what is measured is kept, and the study goes on with --resume"


if __name__ == "__main__":
    main()

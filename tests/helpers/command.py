"""Running the command in a test."""

from seedmap.experiments.commands import main as cli


def seedmap(*arguments):
    """Runs the command; returns its exit code."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as exit_:
        return exit_.code
    return 0

"""The one error for wrong input: its message says what, where, and how to mend it."""


class UserError(ValueError):
    """Wrong input of the user's.

    The command prints the message as one line and exits with 2; every other exception is a bug and
    keeps its traceback.
    """

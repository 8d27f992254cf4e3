"""Faults that a user can mend."""


class UserError(ValueError):
    """Bad input. The text says what, where, what was expected and what to do.

    Stages and the command line print it without a traceback.
    """

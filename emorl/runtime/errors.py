"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: one clear sentence naming the file, key or value and what is allowed.

    The command line prints it without a traceback and exits with status 1.
    """

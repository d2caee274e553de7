"""Errors of commands. The message of each is one line for the user."""


class StartError(Exception):
    """A command could not start or go on. The message says what is wrong, and what to do."""


class Interrupted(Exception):
    """Ctrl-C ended a command. The message says what state that leaves, and how to go on."""

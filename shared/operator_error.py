"""What an operator can put right: told in one line, without a traceback."""

from __future__ import annotations


class OperatorError(Exception):
    """The message says what is wrong and what to do; `exit_code` is what a command leaves with."""

    exit_code = 1

"""Every error that vitreous raises on purpose, as one tree.

    VitreousError
    |- InputError            something given by the user is wrong: exit code 2, one line, nothing written
    |  |- FileProblem        a file is missing, unreadable, truncated, empty or of another kind
    |  |- FormatProblem      the bytes are readable but do not say what they must
    |  |- DataProblem        values are inconsistent: NaN, mixed boxes, rows outside a stack
    |  `- SettingsProblem    an option or a combination of options cannot work
    `- OutputProblem         a result cannot be written: folder finished already, disk full

Each message is one line made of three parts: what was got, what was expected, and what to do.
"""

from __future__ import annotations


class VitreousError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns."""

    exit_code = 2

    def __init__(self, got: str, expected: str = "", remedy: str = ""):
        self.got, self.expected, self.remedy = got, expected, remedy
        super().__init__(self.line())

    def line(self) -> str:
        """The whole message on one line."""
        parts = [self.got]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(" ".join(part.split()) for part in parts)


class InputError(VitreousError):
    """Something given by the user is wrong."""


class FileProblem(InputError):
    """A file is missing, unreadable, truncated, empty or of another kind."""


class FormatProblem(InputError):
    """The bytes are readable but do not follow the format."""


class DataProblem(InputError):
    """Values are inconsistent with each other or with the job."""


class SettingsProblem(InputError):
    """An option, or a combination of options, cannot work."""


class OutputProblem(VitreousError):
    """A result cannot be written."""

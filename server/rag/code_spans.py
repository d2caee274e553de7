"""Detects code in Markdown while the text is being generated."""


class CodeDetector:
    """Reads Markdown one character at a time, and detects fences of backticks or tildes and spans of backticks.

    A span ends with its line, since a span that is never closed is no code.
    """

    def __init__(self) -> None:
        self._fence = ""  # the open fence
        self._is_opening = False  # whether this line opened the fence
        self._span = 0  # number of backticks that opened the span; 0: none is open
        self._run = ""  # backticks or tildes that are still being read
        self._run_leads = False  # whether only blanks or quote marks stand before the run in its line
        self._is_leading = True  # whether this line has only blanks or quote marks so far

    @property
    def is_code(self) -> bool:
        """True if the last character is code. A run of backticks counts as the text before it until it has ended."""
        return bool(self._fence or self._span)

    def read(self, character: str) -> None:
        """Take in the next character."""
        if self._run and character != self._run[0]:
            self._end_run(character)
        if character == "`" or (character == "~" and (self._is_leading or self._run)):
            if not self._run:
                self._run_leads = self._is_leading
            self._run += character
        elif character == "\n":
            self._span, self._is_opening = 0, False
        self._is_leading = character == "\n" or (self._is_leading and character in " \t>")

    def _end_run(self, following: str) -> None:
        run, self._run = self._run, ""
        if self._fence and not self._is_opening:
            if self._run_leads and run.startswith(self._fence) and following.isspace():
                self._fence = ""
        elif self._fence:  # a line that opens a fence has no other backticks, so this is a span
            if run[0] == self._fence[0] == "`":
                self._span = 0 if run == self._fence else len(self._fence)
                self._fence, self._is_opening = "", False
        elif self._run_leads and len(run) >= 3 and not self._span:
            self._fence, self._is_opening = run, True
        elif run[0] == "`" and self._span in (0, len(run)):
            self._span = 0 if self._span else len(run)

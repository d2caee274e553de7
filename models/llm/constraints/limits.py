"""Limits of what a constraint may cost to compile and to follow."""

from llguidance import LLParserLimits

MAX_TEXT = 64 * 1024  # bytes of all schemas or of the expression
MAX_DEPTH = 32  # schemas, literals or groups of an expression in each other
MAX_NODES = 500  # schemas, and arrays and objects in literals, of all tools together
MAX_WEIGHT = 16_384  # characters of an expression with its counted repetitions written out
MAX_STEP = 10_000  # least common multiple of all `multipleOf`; llguidance makes as many states
MAX_EXACT = 2**53  # larger numbers are not exact in the compiler
MAX_CALLS = 16  # calls in one answer: small models find no end
PARSER_LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)

"""Makes a peer's text safe for a terminal and for a log: no character in it controls either.

Names, reasons, tracebacks, notes and metrics are of other machines. ANSI escapes could rewrite what a terminal shows or
its title, line ends could forge lines of a log, and bidirectional overrides could show a text in another order.
"""

from __future__ import annotations

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BIDIRECTIONAL = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINE_ENDS = (0x2028, 0x2029)
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_SURROGATES = range(0xD800, 0xE000)
"""No encoding has them, so a stream refuses to write them."""
_ONE_LINE = {
    code: _SHORT.get(chr(code), f"\\u{code:04x}") for code in (*_CONTROLS, *_BIDIRECTIONAL, *_LINE_ENDS, *_SURROGATES)
}
_LINES = {code: text for code, text in _ONE_LINE.items() if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """Returns the text on one line, with an escape of JSON for each control character.

    These are C0 and C1 controls, DEL, bidirectional marks and overrides, Unicode's line ends, and lone surrogates. A
    JSON document keeps its meaning.
    """
    return text.translate(_ONE_LINE)


def visible_lines(text: str) -> str:
    """Returns the text as `visible` does, but keeps line feeds and tabs: for a text that is shown on several lines."""
    return text.translate(_LINES)

"""Numbers as a person reads them: durations, sizes, counts.

In: plain numbers.  Out: short texts without markup.  The status page and luafcgid2ctl use them; what programs
read has plain numbers.
"""
from __future__ import annotations

_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """A long time in its two largest units: `3 d 4 h`, `12 min 5 s`."""
    left = int(seconds)
    for index, (unit, size) in enumerate(_STEPS):
        if left >= size:
            smaller, below = _STEPS[index + 1] if index + 1 < len(_STEPS) else ("", 0)
            rest = left % size // below if below else 0
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return "0 s"


def short_time(milliseconds: float) -> str:
    """The time of a request: `0.24 ms`, `35 ms`, `1.2 s`, `4 min 2 s`."""
    if milliseconds >= 60000:
        return duration(milliseconds / 1000)
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f} s"
    if milliseconds >= 9.95:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds:.{1 if milliseconds >= 1 else 2}f} ms" if milliseconds else "0 ms"


def size(kilobytes: float) -> str:
    """Memory or traffic: `640 KB`, `13.5 MB`, `2.1 GB`."""
    for unit, factor in (("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10)):
        if kilobytes >= factor:
            return f"{kilobytes / factor:.1f} {unit}"
    return f"{kilobytes:.0f} KB"


def count(number: float) -> str:
    """A count with its thousands marked: `1,234,567`."""
    return f"{number:,.0f}"


def share(part: float, whole: float) -> str:
    """`part` of `whole` in percent; enough digits that a small share is not shown as none."""
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 9.5 else f"{percent:.1f} %" if percent >= .05 else "<0.1 %"

"""The error page with details, for whoever writes the scripts (ShowErrors).

In: title, message, Lua traceback and params of a request that failed.  Out: an HTML page with the lines of the
script around the error, the traceback, Env without secrets, and a button that copies it all.  pages.py calls it, and
loads it only then: a server for the public never does.  It reads the script that the message names.
"""
from __future__ import annotations

import html
import re
from typing import List, Mapping, Optional

from .masks import masked

AROUND = 5
MOST_VALUE = 2000               # characters of one value of Env
# Lua's `/path/x.lua:12: message`.
_PLACE = re.compile(r"(/[^:\n]*):(\d+): ")
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%(title)s</title><style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.3rem; color: #b00020; margin: 0 auto 0 0 } h2 { font-size: 1rem }
header { display: flex; gap: 1rem; align-items: center }
button { font: inherit; font-size: .9rem; padding: .3rem .9rem; border: 1px solid #8888; border-radius: .4rem;
  background: none; color: inherit; cursor: pointer }
pre, .env { background: #f4f4f7; padding: 1rem; overflow: auto; font-size: .9rem; border-radius: .4rem }
mark { background: #ffd9de; color: inherit; display: inline-block; min-width: 100%% }
table { border-collapse: collapse; font: .85rem/1.5 ui-monospace, monospace }
th { text-align: left; padding: 0 1.5rem 0 0; font-weight: 600; vertical-align: top }
td { overflow-wrap: anywhere; white-space: pre-wrap }
.message { font-size: 1.1rem; white-space: pre-wrap; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16161a }
  h1 { color: #ff6b81 } pre, .env { background: #222229 } mark { background: #5a1e28 } }
</style></head><body><main><header><h1>%(title)s</h1><button type="button" id="copy" hidden>Copy</button></header>
<p class="message">%(message)s</p>%(details)s</main>
<p><small>You see the details because <code>ShowErrors</code> is on.</small></p>
<script>
(() => {
  const button = document.getElementById("copy"), main = document.querySelector("main");
  button.hidden = false;
  // The clipboard is for https and this machine only; a selection can be copied from anywhere.
  function select(text) {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
  button.addEventListener("click", async () => {
    button.textContent = "";
    const text = main.innerText.trim() + "\\n";
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch (refused) { done = select(text); }
    button.textContent = done ? "Copied" : "Select and copy by hand";
  });
})();
</script></body></html>
"""


def page(title: str, message: str, traceback: str, params: Mapping[bytes, bytes]) -> str:
    """The whole page."""
    details: List[str] = []
    place = _PLACE.search(message)
    lines = _source(place.group(1), int(place.group(2))) if place else None
    if place and lines:
        details.append("<h2>%s</h2><pre>%s</pre>" % (html.escape(place.group(1)), lines))
    if traceback:
        details.append("<h2>Traceback</h2><pre>%s</pre>" % html.escape(traceback.strip()))
    if params:
        details.append("<h2>Env</h2><div class=\"env\"><table>%s</table></div>" % _env(params))
    return _PAGE % {"title": html.escape(title), "message": html.escape(message), "details": "\n".join(details)}


def _env(params: Mapping[bytes, bytes]) -> str:
    rows = ((name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace"))
            for name, value in sorted(masked(params).items()))
    return "\n".join("<tr><th>%s</th><td>%s</td></tr>" % (
        html.escape(name[:MOST_VALUE]), html.escape(value[:MOST_VALUE] + "..." * (len(value) > MOST_VALUE)))
        for name, value in rows)


def _source(path: str, number: int) -> Optional[str]:
    """The lines around line `number` of the script, that line marked; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            lines = file.read().split("\n")
    except (OSError, ValueError):
        return None
    shown = []
    for index in range(max(1, number - AROUND), min(len(lines), number + AROUND) + 1):
        line = html.escape("%5d  %s" % (index, lines[index - 1]))
        shown.append("<mark>%s</mark>" % line if index == number else line)
    return "\n".join(shown)

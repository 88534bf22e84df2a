"""`luafcgid2ctl new`: a first script, with what nginx and lighttpd need to know of it.

In: a folder that does not hold these files yet, the server's Config.  Out: the files, and what to do next as text.
Only ctl.py calls it.  Nothing is ever overwritten: if one of the files is there, none is written.
"""
from __future__ import annotations

import os
import re
from typing import Any, Dict, List

from . import listener
from .errors import ControlError

# A host name without its domain (RFC 1123, section 2.1): it stands in both snippets.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SAFE = re.compile(r"[A-Za-z0-9/._+-]+")
_SCRIPT = """\
-- @NAME@: the page at /.  A request calls main(); save this file, and the next one runs the new code.
-- Everything that a script needs: luafcgid2's README, "The script's side".

local PAGE = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@NAME@</title>
</head>
<body>
<h1>Hello, %s!</h1>
<form><label>Your name <input name="name" value="%s"></label> <button>Greet</button></form>
</body>
</html>
]]

function main(env)
  -- A name that is given twice is a table; see lf.parse.
  local name = lf.parse(env.QUERY_STRING).name
  name = type(name) == "string" and name ~= "" and name or "world"
  RespContentType("text/html; charset=utf-8")
  -- What a visitor sent must pass lf.escape before it stands in a page.
  name = lf.escape(name)
  Send(PAGE:format(name, name))
end
"""
_NGINX = """\
# @NAME@ for nginx: copy it to /etc/nginx/sites-enabled/@NAME@, then:  nginx -t && nginx -s reload
server {
    listen 80;
    server_name @NAME@.example.org;             # yours
    root @ROOT@;
    index index.lua index.html;
    client_max_body_size 4m;                    # the same as MaxPostSize

    location / {
        try_files $uri $uri/ =404;
    }
    location ~ [^/]\\.lua(/|$) {
        # /blog.lua/2026/11 runs blog.lua with PATH_INFO = /2026/11.
        fastcgi_split_path_info ^(.+?\\.lua)(/.*)$;
        include fastcgi.conf;
        fastcgi_param PATH_INFO $fastcgi_path_info if_not_empty;
        # A client's "Proxy:" header would pass for the environment variable of that name.
        fastcgi_param HTTP_PROXY "" if_not_empty;
        fastcgi_pass @NGINX_ADDRESS@;           # the same as Listen
        # Room for large response headers (many cookies).
        fastcgi_buffer_size 16k;
        fastcgi_buffers 16 16k;
    }
}
"""
_LIGHTTPD = """\
# @NAME@ for lighttpd: copy it to /etc/lighttpd/conf-enabled/20-@NAME@.conf, then:  systemctl reload lighttpd
# Not beside luafcgid2's own 15-luafcgid2.conf, which serves scripts of every host.
server.modules += ( "mod_fastcgi" )

$HTTP["host"] == "@NAME@.example.org" {         # yours
    server.document-root = "@ROOT@"
    index-file.names = ( "index.lua", "index.html" )
    # The source of a script must never be sent as a file.
    static-file.exclude-extensions = ( ".lua" )
    fastcgi.server = ( ".lua" =>
        ((
            @LIGHTTPD_ADDRESS@,     # the same as Listen
            # The extension decides, and what follows it is PATH_INFO.
            "check-local" => "disable"
        ))
    )
}
"""
FILES = {"www/index.lua": _SCRIPT, "nginx.conf": _NGINX, "lighttpd.conf": _LIGHTTPD}


def create(config: Any, folder: str) -> str:
    """Write the files into `folder`, which may be there; what to do next.  ControlError when nothing was written."""
    folder = os.path.abspath(folder)
    name = os.path.basename(folder)
    if not _NAME.fullmatch(name):
        raise ControlError(f"{name!r} is not a name for a site: letters, digits and - only")
    if not _SAFE.fullmatch(folder):
        raise ControlError(f"{folder}: the snippets could not name this folder; use letters, digits and /._+- only")
    words = _words(config, name, folder)
    texts = {os.path.join(folder, path): _filled(text, words) for path, text in FILES.items()}
    there = [path for path in texts if os.path.lexists(path)]
    if there:
        raise ControlError(f"{there[0]} is there already: nothing is written")
    written: List[str] = []
    try:
        os.makedirs(os.path.join(folder, "www"), exist_ok=True)
        for path, text in texts.items():
            with open(path, "x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            os.unlink(path)
        raise ControlError(f"{error.filename or folder}: {error.strerror}") from error
    site = os.path.relpath(os.path.join(folder, "www"))
    return "\n".join([*map(os.path.relpath, texts), "", "Now:",
                      f"  luafcgid2 serve {site}        # look at it, edit it",
                      f"  luafcgid2ctl lint {site}      # check it", f"  {os.path.relpath(folder)}/nginx.conf and "
                      "lighttpd.conf say how to put it on the web"])


def _words(config: Any, name: str, folder: str) -> Dict[str, str]:
    address = listener.parse(config.listen)
    if address.kind == "tcp":
        # B104: the other way round, what listens everywhere is asked on this machine.
        host = address.host if address.host not in ("", "*", "0.0.0.0", "::") else "127.0.0.1"  # nosec B104
        bracketed = f"[{host}]" if ":" in host else host
        nginx, lighttpd = f"{bracketed}:{address.port}", f'"host" => "{host}", "port" => {address.port}'
    else:
        path = address.path or "/run/luafcgid2/luafcgid2.sock"
        nginx, lighttpd = f"unix:{path}", f'"socket" => "{path}"'
    return {"NAME": name, "ROOT": os.path.join(folder, "www"), "NGINX_ADDRESS": nginx, "LIGHTTPD_ADDRESS": lighttpd}


def _filled(text: str, words: Dict[str, str]) -> str:
    return re.sub("@([A-Z_]+)@", lambda found: words[found.group(1)], text)

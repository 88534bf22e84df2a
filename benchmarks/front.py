"""nginx in front of every compared server.

In: the places of a workload and the servers that run for them.  Out: the URL of each.  asking.py calls it.  A place
has a location of its own, `/NAME`, `/NAME-slow` for the slow script, `/NAME/SCRIPT` where there are many.
It configures; nginx.py runs nginx, load.py asks.
"""
from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, List, Mapping, Tuple

import nginx
from instance import Running, Task
from others import LUA_MODIFIER
from workloads import CONNECTIONS, Place

# What Debian's fastcgi_params sends, but for the script's name and the folder, which are those of its file.
PARAMS = (
    ("QUERY_STRING", "$query_string"), ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"), ("CONTENT_LENGTH", "$content_length"),
    ("SCRIPT_NAME", "{name}"),
    ("REQUEST_URI", "$request_uri"), ("DOCUMENT_URI", "$document_uri"), ("DOCUMENT_ROOT", "{root}"),
    ("SERVER_PROTOCOL", "$server_protocol"), ("REQUEST_SCHEME", "$scheme"), ("HTTPS", "$https if_not_empty"),
    ("GATEWAY_INTERFACE", "CGI/1.1"), ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("REMOTE_ADDR", "$remote_addr"), ("REMOTE_PORT", "$remote_port"), ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"), ("SERVER_NAME", "$server_name"), ("REDIRECT_STATUS", "200"),
    ("SCRIPT_FILENAME", "{root}{name}"),
)
UPSTREAM = "  upstream {name} {{ server unix:{path};{keepalive} }}"
LOCATION = """\
    location {where} {{
      {params}
      {protocol}_pass {upstream};{more}
    }}"""


def location(place: Place, where: str, script: str) -> str:
    """The block for one script, whose path may end in a variable of nginx."""
    protocol, more = place.server.protocol, " fastcgi_keep_conn on;" if place.keep else ""
    if protocol == "uwsgi":
        more = " uwsgi_modifier1 %s;" % LUA_MODIFIER
    root, name = os.path.split(script)
    # A location that sets one of them inherits none.
    params = "\n      ".join("%s_param %s %s;" % (protocol, key, value.format(root=root, name="/" + name))
                             for key, value in PARAMS)
    return LOCATION.format(where=where, params=params, protocol=protocol, upstream=place.name, more=more)


def locations(place: Place, task: Task) -> List[str]:
    """All blocks of a place."""
    server, where = place.server, "/" + place.name
    if task.many:
        return [location(place, "~ ^%s/(?<file>[a-z0-9]+)$" % where, server.script("$file", task.many))]
    found = [location(place, "= " + where, server.script(task.script))]
    if task.slow:
        found.append(location(place, "= " + where + nginx.SLOW, server.script(task.slow)))
    return found


@contextlib.contextmanager
def started(folder: str, workers: int, tasks: Mapping[str, Tuple[Place, Task, Running]]
            ) -> Iterator[Tuple[Dict[str, str], Tuple[int, ...]]]:
    """Runs nginx over the servers and yields the URL of each place and nginx's process ids; raises Missing."""
    behind = {name: known for name, known in tasks.items() if not known[2].url}
    upstreams = "\n".join(UPSTREAM.format(
        name=name, path=running.path, keepalive=" keepalive %d;" % CONNECTIONS if place.keep else "")
        for name, (place, _, running) in behind.items())
    blocks = "\n".join(block for place, task, _ in behind.values() for block in locations(place, task))
    with nginx.started(folder, workers, blocks, upstreams) as (base, pids):
        yield {name: running.url or base + name for name, (_, _, running) in tasks.items()}, pids

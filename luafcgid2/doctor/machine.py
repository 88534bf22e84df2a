"""What runs on this machine: the web servers and their configuration, and the queue of a listener.

In: paths, or nothing; then /proc, `nginx -V`, `lighttpd -p` and `ss` are asked.  Out: nginx.Nginx and
lighttpd.Lighttpd objects, and numbers.  facts.py calls it.  It starts no server, and asks nobody outside of
this machine.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..listener import Address
from .lighttpd import Lighttpd
from .nginx import Nginx, read as read_nginx
from .visitor import user_name

WebServer = Union[Nginx, Lighttpd]
NGINX_CONF, LIGHTTPD_CONF = "/etc/nginx/nginx.conf", "/etc/lighttpd/lighttpd.conf"
# Root's own PATH of Debian lacks nothing; an ordinary user's lacks sbin.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"
SECONDS = 10.0                  # how long a program may take to print its configuration


class Process(NamedTuple):
    """A process: `words` is its command line; of a master that has workers, `user` is theirs."""

    pid: int
    words: Tuple[str, ...]
    user: str


def run(*words: str) -> Tuple[str, str]:
    """(standard output, standard error) of a program; ("", why) when it cannot run."""
    program = shutil.which(words[0], path=PATH)
    if not program:
        return "", "%s is not installed" % words[0]
    try:
        # B603: what the doctor asks for, from a PATH of the system, without a shell.
        done = subprocess.run([program, *words[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,  # nosec B603
                              stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", "%s: %s" % (words[0], error)
    return os.fsdecode(done.stdout), os.fsdecode(done.stderr)


def children(pid: int) -> List[int]:
    """The children of a process; [] where the kernel does not tell."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []


def _processes() -> Iterator[Tuple[int, List[str]]]:
    """(pid, command line) of the processes that see the same files as we do; a container's do not."""
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            try:
                with open("/proc/%s/cmdline" % entry, "rb") as file:
                    words = os.fsdecode(file.read()).rstrip("\0").split("\0")
                if os.geteuid() != 0 or os.path.samefile("/proc/%s/root" % entry, "/"):
                    yield int(entry), words
            except OSError:
                continue


def find_processes(name: str) -> List[Process]:
    """The running masters of nginx, or the running lighttpds."""
    found = []
    for pid, words in _processes():
        if name == "nginx" and words[0].startswith("nginx: master process "):
            words = words[0].split()[3:]
        elif name == "nginx" or os.path.basename(words[0]) != name:
            continue
        owner = next(iter(children(pid)), pid) if name == "nginx" else pid
        try:
            found.append(Process(pid, tuple(words), user_name(os.stat("/proc/%d" % owner).st_uid)))
        except OSError:
            continue
    return found


def option(words: Sequence[str], letter: str) -> str:
    """The value of `-c FILE` or `-cFILE` in a command line; "" without it."""
    for position, word in enumerate(words):
        if word == letter:
            return "".join(words[position + 1:position + 2])
        if word.startswith(letter) and len(letter) == 2 and not word.startswith("--"):
            return word[2:]
    return ""


def web_servers(nginx_conf: str = "", lighttpd_conf: str = "") -> List[WebServer]:
    """The web servers of these files; without one, those that run, or else those that are configured.

    ConfigError when nginx's file cannot be read for want of a library.
    """
    running = {name: find_processes(name) for name in ("nginx", "lighttpd")}
    default = _default_nginx()
    found = [(_conf("nginx", process, default), process) for process in running["nginx"]]
    found += [(_conf("lighttpd", process, LIGHTTPD_CONF), process) for process in running["lighttpd"]]
    wanted = [path for path in (nginx_conf, lighttpd_conf) if path]
    if not wanted:
        wanted = list(dict.fromkeys(path for path, _ in found)) or [
            path for path in (default, LIGHTTPD_CONF) if os.path.isfile(path)]
    kinds = {nginx_conf: "nginx", lighttpd_conf: "lighttpd", default: "nginx", LIGHTTPD_CONF: "lighttpd"}
    kinds.update({path: "nginx" for path, process in found if process in running["nginx"]})
    servers = []
    for path in wanted:
        server = read_nginx(path) if kinds.get(path) == "nginx" else read_lighttpd(path)
        process = next((process for conf, process in found if conf == os.path.realpath(path)), None)
        server.running = process is not None
        # A worker that was just started is still root.
        actual = process.user if process and process.user != "root" else ""
        server.user = actual or server.user or user_name(os.geteuid())
        servers.append(server)
    return servers


def _default_nginx() -> str:
    found = re.search(r"--conf-path=(\S+)", run("nginx", "-V")[1])
    return os.path.realpath(found[1]) if found else NGINX_CONF


def _conf(name: str, process: Process, default: str) -> str:
    path = option(process.words, "-c" if name == "nginx" else "-f") or default
    try:
        folder = option(process.words, "-p") if name == "nginx" else ""
        folder = folder or os.readlink("/proc/%d/cwd" % process.pid)
    except OSError:
        folder = "/"
    return os.path.realpath(os.path.join(folder, path))


def read_lighttpd(path: str) -> Lighttpd:
    """The lighttpd of a configuration file."""
    text, errors = run("lighttpd", "-p", "-f", path)
    return Lighttpd(path, text, () if text else ("%s: %s" % (path, errors.strip() or "lighttpd says nothing"),))


def listens(pid: int) -> List[str]:
    """Where a process listens, in the notation of Listen; [] when `ss` does not tell, as for another user's."""
    return [text for kind in ("-x", "-t") for text in listens_in(run("ss", "-H", "-lnp", kind)[0], pid)]


def listens_in(text: str, pid: int) -> List[str]:
    """The same from the text that `ss -H -lnp` printed: its last column names the processes."""
    lines = [line.split() for line in text.splitlines()]
    return [words[words.index("LISTEN") + 3] for words in lines
            if "LISTEN" in words and "pid=%d," % pid in words[-1]]


def queue(address: Address) -> Optional[Tuple[int, int]]:
    """(connections that wait, backlog) of a listener, as `ss` tells; None when it does not."""
    return queue_in(run("ss", "-H", "-ln", "-x" if address.kind == "unix" else "-t")[0], address)


def queue_in(text: str, address: Address) -> Optional[Tuple[int, int]]:
    """The same from the text that `ss -H -ln` printed.  Its first numbers are Recv-Q and Send-Q."""
    for line in text.splitlines():
        words = line.split()
        if "LISTEN" not in words:
            continue
        waiting, backlog, name = words[words.index("LISTEN") + 1:][:3]
        if address.kind == "unix" and name == address.path or (
                address.kind == "tcp" and name.rpartition(":")[2] == str(address.port)):
            return int(waiting), int(backlog)
    return None

"""Builds the parts of a worker from the configuration: the one place that knows which option goes where.

In: a Config, an Engine, a Scoreboard, a logger.  Out: session service, shared dictionary, state pool,
responder, FastCGI server, poller, monitor.  worker.py calls it after the fork; tests build the same parts without a
fork.  It starts nothing.
"""
from __future__ import annotations

import logging
import os
import resource
import socket
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

from .allowed import Allowed, clients
from .complaints import Complaints
from .fcgi import Limits, Server
from .fastpath import BUILT, FastPath
from .forms import Form, FormLimits, FormService
from .handoff import Handoff
from .heap import Heap
from .jsontext import decode as decode_json
from .monitor import Monitor
from .poller import Poller
from .pool import Rules, StatePool
from .popen import Popens
from .gate import Gate
from .ready import Reporter
from .relay import Relay
from .replies import Answer, deny
from .responder import Responder
from .runtime import Engine
from .scheduling import schedule
from .scoreboard import GENERATION, Scoreboard
from .script import Resolver
from .seat import Seat
from .sessions import open_store
from .sessions.session import HOST_CALLS, SessionService
from .sessions.shared import HOST_CALLS as SHARED_CALLS, SharedService
from .state import Services
from .stream import Streams
from .timeouts import Timeouts

GENERATIONAL = ("5.4", "5.5")


def make_sessions(config: Any, logger: logging.Logger) -> SessionService:
    """The session service; its store opens at the first use."""
    return SessionService(config, open_store(config.session_store, logger), logger)


def make_shared(config: Any, sessions: SessionService, logger: logging.Logger) -> SharedService:
    """The shared dictionary, in the store of the sessions."""
    size = config.shared_max_bytes
    return SharedService(sessions.store.shared(size), size, logger)


def settings(config: Any, engine: Engine) -> Dict[str, Any]:
    """What the prelude wants to know, as values that Lua takes."""
    def encoded(*values: str) -> bytes:
        return ";".join(filter(None, values)).encode("utf-8", "surrogateescape")

    return {
        **_head(encoded(config.default_headers), encoded(config.default_http_status),
                encoded(config.default_content_type), config.elapsed_time_header),
        "entrypoint": encoded(config.entrypoint),
        "elapsed": config.elapsed_time_header,
        "report_heap": bool(config.access_log_path),
        "session_name": encoded(config.session_name),
        "config_code": engine.compile(config.globals_chunk, b"=Config"),
        "lua_path": encoded(config.lua_path, engine.default_path().decode()),
        "lua_cpath": encoded(config.lua_cpath, engine.default_cpath().decode()),
        "local_c_modules": config.allow_local_c_modules,
        "form_memory": config.form_memory,
        "form_parts": config.form_max_parts,
        "max_memory": config.script_max_memory,
        "max_buffer": config.max_buffer_size,
        "send_file_header": encoded(config.send_file_header),
        "send_file_map": encoded(config.send_file_map),
        "generational": engine.version in GENERATIONAL,
    }


def _head(headers: bytes, status: bytes, content_type: bytes, elapsed: bool) -> Dict[str, bytes]:
    """What the head of a response is made of, and all of it up to the length, for scripts that set nothing.

    What exists once in a response may be set by DefaultHeaders, but not be a second one.
    """
    once = {b"status": status, b"content-type": content_type, b"content-length": b""}
    lines = b""
    for line in filter(None, headers.split(b"\r\n")):
        name, _, value = line.partition(b":")
        if name.strip().lower() in once:
            once[name.strip().lower()] = value.strip()
        else:
            lines += line + b"\r\n"
    status, content_type, _ = once.values()
    head = b"Status: %s\r\nContent-Type: %s\r\n%s%s" % (
        status, content_type, b"X-ElapsedTime: 0\r\n" if elapsed else b"", lines)
    return {"default_status": status, "default_content_type": content_type, "default_headers": lines,
            "default_head": head}


def generation_of(scoreboard: Scoreboard) -> Callable[[], int]:
    """A function that gives the generation; asked twice a request, so it goes around the property."""
    cells = scoreboard.cells
    return lambda: cells[GENERATION]


def make_pool(config: Any, engine: Engine, scoreboard: Any, sessions: SessionService,
              logger: logging.Logger, popens: Optional[Popens] = None,
              shared: Optional[SharedService] = None, seats: Sequence[Seat] = ()) -> StatePool:
    """The state pool with its host functions; `seats` are those of the threads that run scripts."""
    popens = popens or Popens()
    shared = shared or make_shared(config, sessions, logger)
    calls: Dict[str, Callable[..., Any]] = {
        "popen_open": popens.open, "popen_opened": popens.opened, "popen_wait": popens.wait,
    }
    calls["json"] = decode_json
    calls.update({name: getattr(shared, method) for name, method in SHARED_CALLS.items()})
    calls.update(Streams(seats, config.send_timeout).host_calls())

    forms = FormService(FormLimits(config.form_max_file_size, config.form_max_size, config.form_memory,
                                   config.form_max_parts), config.temp_dir)

    def per_state() -> Dict[str, Callable[..., Any]]:
        own = sessions.for_state()
        return {"form": Form(forms).call, **{name: getattr(own, method) for name, method in HOST_CALLS.items()}}

    services = Services(engine, lambda: settings(config, engine), logger, calls, per_state, config.script_max_memory)
    rules = Rules(config.lua_states, config.lua_max_states, config.lua_total_states,
                  config.min_file_info_time / 1000, config.use_file_checksum, config.startup_script,
                  config.on_reload_error == "last-good" and not config.show_errors)
    pool = StatePool(services, rules, generation_of(scoreboard), logger)
    calls["thread_data"] = lambda: b"".join(b"%s\0%d\0" % item for item in pool.counts().items())
    return pool


def make_responder(config: Any, pool: StatePool, scoreboard: Any, logger: logging.Logger,
                   reporter: Optional[Reporter] = None, desk: Optional[Any] = None,
                   kept: Optional[Any] = None) -> Responder:
    """The responder with its path rules; `reporter` tells the master what scripts did; `desk` is make_desk's; `kept`
    keeps failed requests (kept.Writer)."""
    resolver = Resolver(tuple(config.script_roots), tuple(config.script_extensions),
                        config.min_file_info_time / 1000)
    gate = Gate(scoreboard, reporter.changed if reporter else _nobody)
    strike = reporter.strike if reporter else _nobody
    return Responder(pool, resolver, scoreboard, gate, logger, config.show_errors, config.elapsed_time_header,
                     strike, desk.answer if desk else None, make_errors(config, pool, scoreboard, gate, logger, strike),
                     kept)


def make_errors(config: Any, pool: StatePool, scoreboard: Any, gate: Gate, logger: logging.Logger,
                strike: Callable[[Any], None]) -> Optional[Callable[..., Any]]:
    """Who makes the pages of failed requests by ErrorScript; None where it is not set."""
    if not config.error_script:
        return None
    from .errorpages import ErrorPages
    return ErrorPages(config.error_script, config.show_errors, config.default_http_status,
                      config.min_file_info_time / 1000, pool, scoreboard, gate, logger, strike).page


def make_authorizer(config: Any, responder: Responder) -> Callable[..., Answer]:
    """What answers requests of the Authorizer role; its module is loaded for the first of them."""
    made: List[Any] = []

    def authorize(params: bytes, body: Any, problem: int, seat: Seat) -> Answer:
        if not made:
            from .authorizer import Authorizer
            made.append(Authorizer(config.authorizer_script, config.min_file_info_time / 1000, responder))
        answer: Answer = made[0].respond(params, body, problem, seat)
        return answer
    return authorize


def make_desk(config: Any, scoreboard: Any) -> Optional[Any]:
    """Who answers StatusPath and PingPath; None where neither is set: then its modules take no memory."""
    if not config.status_path and not config.ping_path:
        return None
    from .status.desk import Desk
    return Desk(config, scoreboard)


def _nobody(_said: Any) -> None:
    """Where there is no master to tell."""


def make_server(config: Any, respond: Callable[..., Answer], logger: logging.Logger,
                authorize: Callable[..., Answer] = deny) -> Server:
    """The FastCGI server; GET_VALUES answers what all workers together accept."""
    # The soft limit keeps a worker from promising descriptors that it cannot have.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = min(config.max_connections, max(1, files - 64)) * config.worker_count
    limits = Limits(config.max_params_size, config.max_post_size or sys.maxsize, config.body_memory, config.temp_dir,
                    config.send_memory, config.max_params, config.max_requests_per_connection, config.receive_memory)
    return Server(respond, limits, logger, connections, connections, authorize)


def make_poller(config: Any, listener: socket.socket, server: Server, logger: logging.Logger,
                handoff: Optional[Handoff] = None) -> Poller:
    """The connections of this worker.  Raises ListenError."""
    complaints = Complaints(logger)
    timeouts = Timeouts(config.header_timeout, config.read_timeout, config.send_timeout, config.max_connections,
                        complaints)
    over_ip = listener.family in (socket.AF_INET, socket.AF_INET6)
    allowed = clients(config.allowed_clients, os.environ) if over_ip else ()
    if not allowed:
        return Poller(listener, server, config.max_connections, timeouts, complaints, handoff)
    accept = Allowed(listener, allowed, complaints).accept
    return Poller(listener, server, config.max_connections, timeouts, complaints, handoff, accept)


def make_fastpath(config: Any, poller: Poller, server: Server, responder: Responder, pool: StatePool, relay: Relay,
                  scoreboard: Any, access: Optional[Any], logger: logging.Logger) -> Optional[FastPath]:
    """The fast path; None where it was not built, does not fit or is not wanted, or where an access log takes note of
    each request."""
    if not BUILT or not config.fast_path or access is not None:
        return None
    pages = [path.encode("utf-8", "surrogateescape") for path in (config.status_path, config.ping_path) if path]
    try:
        fast = FastPath(poller, server, responder, pool, relay, scoreboard.cells, config.elapsed_time_header, pages)
    except TypeError as error:
        logger.warning("FastPath: it was built for another version, install again: %s", error)
        return None
    poller.reclaim, poller.make_lock = fast.reclaim, fast.make_lock
    return fast


def make_monitor(config: Any, slot: Any, seats: List[Seat], pool: StatePool, poller: Poller, access: Optional[Any],
                 logger: logging.Logger, heap: Heap) -> Monitor:
    """Who watches over the threads; before they start, because it makes the settings that all of them inherit."""
    schedule(config.scheduling)
    heap.configure()
    return Monitor(slot, seats, pool, logger, config.request_timeout, config.slow_log_time,
                   bool(config.memory_budget), poller.count, access, heap.trim)

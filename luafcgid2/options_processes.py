"""The configuration keys of the processes and of the listener, as data: see options_table.py, which alone reads it.

In: nothing.  Out: PROCESSES and LISTENER, tuples of the keyword arguments of options.Option.
"""
from __future__ import annotations

CPP = "luafcgid2"
_BIG = 1 << 40

PROCESSES = (
    dict(name="Workers", field="workers", kind="int", default=0, minimum=0, maximum=512, active=True,
         doc="Worker processes; 0 is one for each core. Each runs WorkerThreads requests at a time. With a "
             "ProcessManager other than static: at most so many."),
    dict(name="WorkerThreads", field="worker_threads", kind="int", default=4, since=CPP, minimum=1,
         maximum=1024,
         clamp=True, aliases=("workers",), active=True,
         doc="Threads in each worker process: this many of its requests can wait for a database or compute."),
    dict(name="Scheduling", field="scheduling", kind="string", default="batch", choices=("batch", "normal"),
         doc="batch: a worker lets the web server finish what it does before it takes the processor, which saves both "
             "of them switches; where other programs compute without end its answers may take some milliseconds "
             "longer. normal: as other programs."),
    dict(name="FastPath", field="fast_path", kind="bool", default=True,
         doc="Serve usual requests by compiled code, where it was built when this was installed; false: all of them by "
             "Python, which does the same and takes longer. With AccessLogPath all go by Python."),
    dict(name="ProcessManager", field="process_manager", kind="string", default="static",
         choices=("static", "dynamic", "ondemand"),
         doc="How many workers there are: always Workers; as many as the load asks for, with some to spare; or none "
             "until a request comes (a small machine with few visitors)."),
    dict(name="StartWorkers", field="start_workers", kind="int", default=0, minimum=0, maximum=512,
         doc="dynamic: workers at the start; 0 is halfway between MinSpareWorkers and MaxSpareWorkers."),
    dict(name="MinSpareWorkers", field="min_spare_workers", kind="int", default=1, minimum=1, maximum=512,
         doc="dynamic: when fewer workers than this have nothing to do, more are started."),
    dict(name="MaxSpareWorkers", field="max_spare_workers", kind="int", default=3, minimum=1, maximum=512,
         doc="dynamic: when more workers than this have nothing to do, some leave at once."),
    dict(name="IdleTimeout", field="idle_timeout", kind="seconds", default=10, minimum=0, maximum=86400,
         unit="seconds", doc="dynamic, ondemand: a worker without a request for so long leaves; dynamic keeps "
                             "MinSpareWorkers."),
    dict(name="MaxRequests", field="max_requests", kind="int", default=0, minimum=0, maximum=1 << 40,
         doc="A worker that has served about so many requests is replaced, its successor first; 0: never."),
    dict(name="MaxRequestsJitter", field="max_requests_jitter", kind="int", default=0, minimum=0, maximum=1 << 40,
         doc="MaxRequests is raised by up to so much, differently for each worker, so that not all go at once."),
    dict(name="MaxWorkerMemory", field="max_worker_memory", kind="size", default=0, minimum=0, maximum=_BIG,
         doc="A worker whose resident memory passes this, in bytes or as \"96M\", is replaced between requests; 0: "
             "never. It begins at about 25M, most of it shared with the other workers."),
    dict(name="User", field="user", kind="account", default="", example="www-data", fixed=True,
         doc="Account that the workers run as when the master is started by root; empty: stay who we are."),
    dict(name="Group", field="group", kind="account", default="", example="www-data", fixed=True,
         doc="Group that the workers run as; empty: the first group of User."),
    dict(name="PidFile", field="pid_file", kind="path", fixed=True,
         default="/var/tmp/luafcgid2.pid",  # nosec B108  # the C++ luafcgid2's; no link is followed
         doc="File that holds the master's process id, locked while it runs; empty: none."),
    dict(name="StopTimeout", field="stop_timeout", kind="seconds", default=30, minimum=0, maximum=86400,
         unit="seconds", doc="A graceful stop waits this long for requests under way before it kills."),
    dict(name="RestartLimit", field="restart_limit", kind="int", default=10, minimum=1, maximum=100000,
         doc="So many dead workers within RestartInterval, and the master waits before it starts the next."),
    dict(name="RestartInterval", field="restart_interval", kind="seconds", default=60, minimum=1,
         maximum=86400,
         unit="seconds", doc="The time over which RestartLimit counts dead workers."),
)
LISTENER = (
    dict(name="Listen", field="listen", kind="address", since=CPP,
         default="/var/tmp/luafcgid2.sock",  # nosec B108  # the C++ luafcgid2's; see docs/security.rst
         fixed=True, aliases=("listen",), pattern=r".+", active=True,
         allowed_text='a socket path, ":port", "host:port", "[v6]:port", "fd:0" or "systemd", as a string',
         doc="Where the web server reaches us: a socket path, \":9000\", \"127.0.0.1:9000\", \"[::1]:9000\", "
             "\"fd:0\" for an inherited descriptor, \"systemd\". The C++ luafcgid2 read only this spelling, "
             "though its sample file wrote listen; both are read now."),
    dict(name="ListenMode", field="listen_mode", kind="octal", default="0660", fixed=True,
         doc="File mode of a unix socket, in octal: \"0660\", or the number 0660 or 660."),
    dict(name="ListenOwner", field="listen_owner", kind="account", default="", example="www-data", fixed=True,
         doc="Owner of a unix socket, set when the master is started by root; empty: User."),
    dict(name="ListenGroup", field="listen_group", kind="account", default="", example="www-data", fixed=True,
         doc="Group of a unix socket: the web server's; empty: Group, or the first group of User."),
    dict(name="ListenBacklog", field="listen_backlog", kind="int", default=1024, minimum=1, maximum=65535,
         fixed=True,
         aliases=("backlog",), stands_for=((-1, 1024), (0, 1024)),
         doc="Connections that may wait to be accepted; 0 and -1 are the default."),
    dict(name="MaxConnections", field="max_connections", kind="int", default=1024, minimum=1, maximum=1000000,
         doc="Connections that one worker keeps open at most, idle ones of fastcgi_keep_conn included."),
    dict(name="MaxRequestsPerConnection", field="max_requests_per_connection", kind="int", default=0, minimum=0,
         maximum=_BIG,
         doc="A connection that the web server keeps is closed after so many requests; 0: never. A web server may have "
             "sent the next one by then, and nginx does not repeat a POST."),
    dict(name="AllowedClients", field="allowed_clients", kind="clients", default=(),
         example=("127.0.0.1", "192.0.2.0/24"),
         allowed_text="a table of IP addresses and networks, or such a string with commas",
         doc="Web servers that may connect when we listen on TCP; others are closed at once. Empty: all. As php-fpm's "
             "listen.allowed_clients, with networks too; a unix socket has ListenMode instead."),
    dict(name="HeaderTimeout", field="header_timeout", kind="seconds", default=60, minimum=0, maximum=86400,
         unit="seconds",
         doc="A connection may take this long to send all parameters (headers) of a request, however they trickle, or "
             "a new one to begin; 0: no limit."),
    dict(name="ReadTimeout", field="read_timeout", kind="seconds", default=60, minimum=0, maximum=86400,
         unit="seconds",
         doc="A connection whose unfinished request has not moved on by at least 1,024 bytes for so long is closed: "
             "neither silence nor a trickle holds it; 0: no limit."),
    dict(name="SendTimeout", field="send_timeout", kind="seconds", default=60, minimum=0, maximum=86400,
         unit="seconds",
         doc="A connection may take this long to accept more of an answer; 0: no limit. No thread waits for it but "
             "that of a script that sends in pieces."),
    dict(name="MaxBufferSize", field="max_buffer_size", kind="bytes", default=8 << 20, minimum=0, maximum=_BIG,
         unit="bytes",
         doc="Once a script has sent more than this it leaves, as if the script had called Flush(), instead of waiting "
             "in memory until the script returns; 0: all of it waits."),
    dict(name="SendFileHeader", field="send_file_header", kind="string", default="",
         choices=("", "X-Accel-Redirect", "X-Sendfile"), example="X-Accel-Redirect",
         doc="The header by which SendFile() asks the web server to send the file: nginx's or lighttpd's; empty: the "
             "worker sends it."),
    dict(name="SendFileMap", field="send_file_map", kind="string", default="", pattern=r"(/[^=\s]*=/[^=\s]*)?",
         allowed_text='"/folder=/name", or ""', example="/srv/files=/protected",
         doc="Which names the web server has for files of a folder: nginx needs it, with an internal location of that "
             "name. Files elsewhere the worker sends itself."),
    dict(name="SendMemory", field="send_memory", kind="bytes", default=16 << 20, minimum=0, maximum=_BIG,
         unit="bytes",
         doc="Answers that wait for slow readers take about so much memory of a worker; further ones go to temporary "
             "files in TempDir."),
)

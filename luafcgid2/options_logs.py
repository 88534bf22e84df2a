"""The rows of options_table.py that are about logs; only that module reads them."""
from __future__ import annotations

LOGS = (
    dict(name="LogFilePath", field="log_file_path", kind="log", default="/var/log/luafcgid2/luafcgid2.log",
         since="luafcgid2", aliases=("logfile",), active=True,
         doc="The log; SIGUSR1 opens it anew. \"syslog\": the system's log. Empty or \"stderr\": standard error, "
             "for systemd's journal with the priority that it knows."),
    dict(name="LogLevel", field="log_level", kind="string", default="info",
         choices=("debug", "info", "warning", "error", "critical"), doc="The least level that is logged."),
    dict(name="LogFormat", field="log_format", kind="string", default="text", choices=("text", "json"),
         doc="text: time, pid, level, message; json: the same as one object a line, with a script's name, a URI and "
             "seconds in fields of their own."),
    dict(name="SyslogFacility", field="syslog_facility", kind="string", default="daemon",
         choices=("daemon", "user") + tuple("local%d" % number for number in range(8)),
         doc="The facility of events in syslog."),
    dict(name="SyslogSocket", field="syslog_socket", kind="path", default="/dev/log", pattern=r".+",
         doc="The socket of syslog."),
    dict(name="SlowLogTime", field="slow_log_time", kind="seconds", default=0, minimum=0, maximum=86400,
         unit="seconds", doc="A request that runs for so long is logged, once, with script, URI, seconds and the Lua "
                             "traceback of that moment; 0: none is."),
    dict(name="SlowLogPath", field="slow_log_path", kind="path", default="", example="/var/log/luafcgid2/slow.log",
         doc="The file of such entries; empty: the log."),
    dict(name="KeepFailedRequests", field="keep_failed_requests", kind="int", default=20, minimum=0, maximum=1000,
         fixed=True,
         doc="So many of the last requests whose script failed are kept in memory, up to 32 KB each, for `luafcgid2ctl "
             "failed` and `replay`; cookies and credentials are masked, bodies are not. 0: none."),
    dict(name="AccessLogPath", field="access_log_path", kind="path", default="",
         example="/var/log/luafcgid2/access.log",
         doc="The access log: a line for each request, written in batches; SIGUSR1 opens it anew. Empty: none."),
    dict(name="AccessLogFormat", field="access_log_format", kind="string", default="text", choices=("text", "json"),
         doc="text: the common log format, then milliseconds, milliseconds of CPU and KB of the Lua state; json: one "
             "object a line."),
)

-- luafcgid2 on one of several machines: what is not as on a single one.

-- The private address of this machine.  FastCGI knows no password: only the web server may reach the port.
Listen = "10.0.0.11:9000"

-- The same on each machine.  With TLS: "rediss://:WORD@10.0.0.10:6379/0?ca=/etc/luafcgid2/redis-ca.crt"
SessionStore = "redis://:change-this-long-random-word@10.0.0.10:6379/0"

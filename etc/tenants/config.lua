-- One tenant's luafcgid2; see docs/security.rst.
-- Copy to /etc/luafcgid2/NAME.lua, owned by root, and write the tenant's account here.
local tenant = "alice"

-- Scripts run as the tenant and reach what the tenant's account reaches, no more.
User = tenant
ScriptRoots = {"/srv/" .. tenant .. "/www"}

-- In a folder of root's, so that nobody can put another socket there; only the web server may connect.
Listen = "/run/luafcgid2/" .. tenant .. ".sock"
ListenOwner = "root"
ListenGroup = "www-data"
ListenMode = "0660"

PidFile = "/run/luafcgid2-" .. tenant .. "/luafcgid2.pid"
LogFilePath = "/var/log/luafcgid2-" .. tenant .. "/luafcgid2.log"
SessionStore = "sqlite:///var/lib/luafcgid2-" .. tenant .. "/state.db"
TempDir = "/var/lib/luafcgid2-" .. tenant

-- What one tenant may take of the machine.
ProcessManager = "ondemand"
Workers = 1
RequestTimeout = 30
MemoryBudget = "128M"
MaxPostSize = 4 * 1024 * 1024
MaxConnections = 128

"""How sessions and shared entries lie in Redis, and the scripts that change them there.

In: what the protocols of this package were given.  Out: field names, arguments of a script, and answers made
of what Redis returned.  redis_store.py and redis_shared.py call it.  It talks to nobody.

A session is the hash PREFIX s:KEY.  Its fields: i the session's id, t its identity, e when it expires; r
REALM for each realm; v LENGTH REALM NAME for each variable, LENGTH being that of REALM in four bytes, so that
no two pairs of realm and name make the same field.  A handle is (id, key at that time).  Once the key has
changed, the string PREFIX m:ID names the hash for those who have the old handle.
"""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from ..digests import sha1
from . import Change, Loaded, Realms
from .shared_store import Value

ID, IDENTITY, EXPIRES = b"i", b"t", b"e"
REALM, VARIABLE = b"r", b"v"


class Script:
    """A script of the server's Lua; `sha` is how the server knows it (EVALSHA)."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.sha = sha1(text, usedforsecurity=False).hexdigest().encode()


# Nothing is written before all that can be refused was looked at: Redis does not roll back.  What a lost
# connection makes the client send again does the same again; so the client makes the id.
COMMIT = Script(b"""\
local at = 6
local function take() at = at + 1 return ARGV[at] end
local sessions, moves, mode, id, expected, key = unpack(ARGV, 1, 6)
local name = sessions .. key

local function find(wanted, last)
  if redis.call('HGET', sessions .. last, 'i') == wanted then return sessions .. last end
  local moved = redis.call('GET', moves .. wanted)
  return moved and redis.call('HGET', moved, 'i') == wanted and moved
end

if mode ~= 'none' then
  local owner = redis.call('HGET', name, 'i')
  if owner and owner ~= id then return redis.error_reply('ERR the session key is in use') end
end
for _ = 1, tonumber(take()) do
  local wanted, last = take(), take()
  local found = find(wanted, last)
  if found then redis.call('DEL', found, moves .. wanted) end
end
if mode == 'none' then return 'stored' end

local header, expires, ttl, identity = take() == '1', take(), tonumber(take()), take()
local status, known = 'stored', 0
if mode == 'new' then
  redis.call('HSET', name, 'i', id)
else
  local found = find(id, expected)
  if not found then return 'gone' end
  if found ~= name and found ~= sessions .. expected then
    status, header, name = 'moved', false, found
  elseif header and found ~= name then
    redis.call('RENAME', found, name)
    redis.call('SET', moves .. id, name, 'PX', math.max(ttl, 1))
  else
    name = found
  end
  known = tonumber(redis.call('HGET', name, 'e') or 0)
end
if header then redis.call('HSET', name, 't', identity) end

for _ = 1, tonumber(take()) do
  local variables, marker = take(), take()
  for _, field in ipairs(redis.call('HKEYS', name)) do
    if string.sub(field, 1, #variables) == variables or field == marker then
      redis.call('HDEL', name, field)
    end
  end
end
for _ = 1, tonumber(take()) do redis.call('HDEL', name, take()) end
for _ = 1, tonumber(take()) do redis.call('HSET', name, take(), take()) end
if header and tonumber(expires) > known then
  redis.call('HSET', name, 'e', expires)
  redis.call('PEXPIRE', name, ttl)
end
return status
""")

# KEYS: the entry.  ARGV: by; the value of a new entry, '' for none, '!' for one too large; its ttl in
# milliseconds, '0' for ever.  Sums of integers are left to INCRBY, since Lua here knows 53 bits only.
INCR = Script(b"""\
local key, by, first, ttl = KEYS[1], unpack(ARGV)
local value = redis.call('GET', key)
if not value then
  if first == '' then return false end
  if first ~= '!' then
    if ttl == '0' then redis.call('SET', key, first) else redis.call('SET', key, first, 'PX', ttl) end
  end
  return first
end
if string.sub(value, 1, 1) == '=' then return '=' end
if string.sub(value, 1, 1) ~= 'd' and string.sub(by, 1, 1) ~= 'd' then
  local done = redis.pcall('INCRBY', key, by)
  if type(done) == 'table' and done.err then return string.find(done.err, 'overflow') and '!' or done end
  return redis.call('GET', key)
end
local sum = tonumber((string.gsub(value, '^d', ''))) + tonumber((string.gsub(by, '^d', '')))
if sum ~= sum or sum == math.huge or sum == -math.huge then return '!' end
local text = 'd' .. string.format('%.17g', sum)
redis.call('SET', key, text, 'KEEPTTL')
return text
""")
TOO_LARGE, NO_NUMBER = b"!", b"="


def variables_of(realm: bytes) -> bytes:
    """What the fields of all variables of a realm begin with."""
    return VARIABLE + len(realm).to_bytes(4, "big") + realm


def loaded(fields: Dict[bytes, bytes], key: bytes, now: int) -> Optional[Loaded]:
    """The session in a hash found under `key`, unless there is none or it has expired."""
    if ID not in fields or int(fields.get(EXPIRES, 0)) <= now:
        return None
    realms: Realms = {}
    for field, value in fields.items():
        kind = field[:1]
        if kind == VARIABLE:
            start = 5 + int.from_bytes(field[1:5], "big")
            realms.setdefault(field[5:start], {})[field[start:]] = value
        elif kind == REALM:
            realms.setdefault(field[1:], {})
    return Loaded((fields[ID], key), fields.get(IDENTITY, b""), int(fields[EXPIRES]), realms)


def commit_arguments(change: Change, prefix: bytes, new_id: bytes, now: float) -> Tuple[List[bytes], Any]:
    """What COMMIT takes, and the handle of the session that is written.

    `new_id` is for a session not yet stored; `now` is in seconds since 1970.
    """
    mode, handle = b"none", None
    if change.key is not None:
        mode, handle = (b"new", (new_id, change.key)) if change.handle is None else (b"old", change.handle)
    found = [prefix + b"s:", prefix + b"m:", mode, handle[0] if handle else b"", change.expected,
             change.key or b"", b"%d" % len(change.deletes)]
    for deleted in change.deletes:
        found += deleted
    found += [b"1" if change.header or mode == b"new" else b"0", b"%d" % change.expires,
              b"%d" % ((change.expires - now) * 1000), change.identity, b"%d" % len(change.clears)]
    for realm, stays in change.clears.items():
        found += [variables_of(realm), b"" if stays else REALM + realm]
    erased, stored = [], []
    for (realm, name), value in change.sets.items():
        if name is None:
            stored += [REALM + realm, b""]
        elif value is None:
            erased.append(variables_of(realm) + name)
        else:
            stored += [variables_of(realm) + name, value]
    return found + [b"%d" % len(erased), *erased, b"%d" % (len(stored) // 2), *stored], handle


def packed(value: Value) -> bytes:
    """A shared value as it lies in Redis: digits for an integer (for INCRBY), d for a float, = for bytes."""
    if isinstance(value, bytes):
        return b"=" + value
    return b"%d" % value if isinstance(value, int) else b"d" + repr(value).encode()


def unpacked(text: bytes) -> Value:
    """The reverse of `packed`."""
    if text[:1] == b"=":
        return text[1:]
    return float(text[1:]) if text[:1] == b"d" else int(text)


def pattern(prefix: bytes) -> bytes:
    """The pattern of SCAN for names that begin with `prefix`."""
    escaped = prefix
    for special in (b"\\", b"*", b"?", b"["):
        escaped = escaped.replace(special, b"\\" + special)
    return escaped + b"*"

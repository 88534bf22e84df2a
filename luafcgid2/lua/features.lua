-- The functions of `lf` that the ancestors did not have: each is loaded when a script first asks for it.
-- In: the table `lf`.  Out: `install` gives it a metatable that knows the names.  api.lua loads this file when a
-- script first asks `lf` for a name that it does not have.

local import = ...
local rawset, setmetatable = rawset, setmetatable

-- Name -> the module that has a function of that name.
local MODULES = {
  get = "inputs", post = "inputs", json = "inputs", form = "forms",
  escape = "answers", redirect = "answers", cookie = "setcookie",
  accepts = "negotiation", conditional = "conditional",
}

local features = {}

function features.install(lf)
  return setmetatable(lf, {
    __index = function(_, name)
      local module = MODULES[name]
      if not module then return nil end
      local work = import(module)[name]
      rawset(lf, name, work)
      return work
    end,
  })
end

return features

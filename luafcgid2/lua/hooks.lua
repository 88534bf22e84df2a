-- BeforeRequest and AfterRequest, which a StartupScript defines.
-- In: guard, the two globals (either may be nil), the response and Log.  Out: what run.lua calls instead of
-- guard.call, with the same results.  Loaded only for states that have such a hook; others pay nothing.

local tostring = tostring

local import = ...

return function(guard, before, after)
  local call, EXIT = guard.call, guard.EXIT
  local function run(main, env, con)
    if before ~= nil then
      local ok, handled, trace = call(before, env, con)
      if not ok then return false, handled, trace end
      -- os.exit has ended the request.
      if handled == true or handled == EXIT then return true end
    end
    return call(main, env, con)
  end

  -- It runs after a failure, too, and is told 500 then; what it adds to the response is lost in that case.
  return function(main, env, con)
    local ok, message, trace = run(main, env, con)
    if after == nil then return ok, message, trace end
    local fine, problem, where = call(after, env, ok and import("response").code() or 500)
    if fine then return ok, message, trace end
    if ok then return false, problem, where end
    import("api").log("AfterRequest: " .. tostring(problem))
    return false, message, trace
  end
end

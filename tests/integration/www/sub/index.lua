function main()
  Send("index of " .. Env.SCRIPT_NAME)
end

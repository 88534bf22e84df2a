function main(env, con)
  Send("Hello, world!")
end

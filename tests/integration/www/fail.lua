function main()
  Send("lost")
  error("provoked")
end

function main()
  Send(Cookies.seen or "none")
end

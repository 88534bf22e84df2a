-- Waits as nginx's Lua does, without holding anybody.
ngx.sleep(0.1)
ngx.print("Hello, world!")

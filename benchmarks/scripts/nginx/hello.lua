ngx.print("Hello, world!")

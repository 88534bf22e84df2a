-- The whole body is read.
ngx.req.read_body()
ngx.print(#ngx.req.get_body_data())

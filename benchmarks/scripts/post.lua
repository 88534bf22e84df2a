-- The whole body is read.
function main(env, con)
  Send(#Receive())
end

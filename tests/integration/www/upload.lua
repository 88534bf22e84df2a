-- What came in a form, a line for each part; ?save=PATH keeps the first file there.
function main()
  local form = lf.form()
  for name, value in pairs(form.fields) do Send("field " .. name .. "=" .. value .. "\n") end
  for _, file in ipairs(form.files) do
    Send(("file %s %s %d\n"):format(file.name, file.filename, file.size))
  end
  local path = lf.get("save")
  if path then form.files[1]:save(path) end
end

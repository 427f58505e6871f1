--- What the user chose. Does not know the protocol or the screen.

local M = {}

---@alias foretype.Action 'accept'|'accept_word'|'accept_line'|'dismiss'|'next'|'previous'

M.keys = { ---@type table<foretype.Action, string>
  accept = '<Tab>',
  accept_word = '<M-w>',
  accept_line = '<M-l>',
  dismiss = '<C-]>',
  next = '<M-n>',
  previous = '<M-p>',
}

---Return the key of an action by `g:foretype_keys`, else by default; nothing if it is to have none.
---@param action foretype.Action
---@return string?
function M.key(action)
  local key = (vim.g.foretype_keys or {})[action]
  if key == nil then key = M.keys[action] end
  return key or nil
end

---Whether ghost text is switched on: by `b:foretype_enabled`, else by `g:foretype_enabled`.
---@return boolean
function M.is_enabled()
  local value = vim.b.foretype_enabled
  if value == nil then value = vim.g.foretype_enabled end
  return value ~= false and value ~= 0
end

---The server on PATH, else the one of the clone that this file lies in, else an installed module.
---@return string[]
function M.server_command()
  local file = debug.getinfo(1, 'S').source:sub(2)
  local here = vim.fs.dirname(vim.uv.fs_realpath(file) or file) -- A package may be a link.
  local clone = vim.fs.normalize(here .. '/../../../../.venv/bin/foretype-server')
  for _, program in ipairs({ 'foretype-server', clone }) do
    if vim.fn.executable(program) == 1 then return { program } end
  end
  -- With -P a folder `server` in the workspace is not mistaken for ours.
  return { vim.fn.executable('python3') == 1 and 'python3' or 'python', '-P', '-m', 'server' }
end

return M

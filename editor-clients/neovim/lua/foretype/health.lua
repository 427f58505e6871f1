--- `:checkhealth foretype`: what runs, and what to do if it does not.

local M = {}
local health = vim.health

---Check the command that starts the server.
---@param cmd string[]|function
local function check_command(cmd)
  local shown = type(cmd) == 'table' and table.concat(cmd, ' ') or 'a function'
  if type(cmd) ~= 'table' or vim.fn.executable(cmd[1]) == 1 then
    return health.ok('server command: ' .. shown)
  end
  health.error('server command does not run: ' .. shown, { 'see :h foretype-server' })
end

---Check a server that runs.
---@param client vim.lsp.Client
local function check_client(client)
  local info = client.server_info or {}
  health.ok(('server: %s %s'):format(info.name or 'nameless', info.version or ''))
  if client:supports_method('textDocument/inlineCompletion') then
    health.ok('it completes inline; positions in ' .. client.offset_encoding)
  else
    health.error('it does not complete inline', { 'see :h foretype-server' })
  end
  local answer, err = client:request_sync('foretype/status', vim.empty_dict(), 2000)
  local status = answer and answer.result
  if status and status.state ~= 'error' then
    return health.ok('status: ' .. require('foretype').describe(status))
  end
  local why = status and status.message or err or vim.inspect(answer and answer.err)
  health.error('status: ' .. why, { 'see :Foretype log' })
end

function M.check()
  health.start('Foretype')
  health.ok('Neovim ' .. tostring(vim.version()))
  for action in pairs(vim.g.foretype_keys or {}) do
    if not require('foretype.config').keys[action] then
      health.warn('unknown action in g:foretype_keys: ' .. action, { 'see :h foretype-keys' })
    end
  end
  local core = vim.lsp.inline_completion
  if core and core.is_enabled() then
    health.warn('vim.lsp.inline_completion is enabled: it paints, and this plugin does not')
  end
  check_command(vim.lsp.config.foretype.cmd)
  local client = vim.lsp.get_clients({ name = 'foretype' })[1]
  if client then return check_client(client) end
  health.warn('no server runs', { 'open a file, or see :Foretype log' })
end

return M

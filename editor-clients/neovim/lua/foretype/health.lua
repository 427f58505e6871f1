--- `:checkhealth foretype`: what runs, and what to do if it does not.

local M = {}
local health = vim.health

---Check a server that runs.
---@param client vim.lsp.Client
local function check_client(client)
  local info = client.server_info or {}
  health.ok(('server: %s %s'):format(info.name or 'nameless', info.version or ''))
  local completes = client:supports_method('textDocument/inlineCompletion')
  health[completes and 'ok' or 'error'](
    ('completes inline: %s; positions in %s'):format(completes, client.offset_encoding)
  )
  local answer, err = client:request_sync('foretype/status', vim.empty_dict(), 2000)
  local status = answer and answer.result
  local is_well = status and status.state ~= 'error'
  health[is_well and 'ok' or 'error'](
    'status: ' .. (status and require('foretype').describe(status) or err or vim.inspect(answer))
  )
end

function M.check()
  health.start('Foretype')
  for action in pairs(vim.g.foretype_keys or {}) do
    local is_known = require('foretype.config').keys[action]
    if not is_known then health.warn('unknown action in g:foretype_keys: ' .. action) end
  end
  local core = vim.lsp.inline_completion
  if core and core.is_enabled() then
    health.warn('vim.lsp.inline_completion is enabled: it paints, and this plugin does not')
  end
  local cmd = vim.lsp.config.foretype.cmd
  local is_there = type(cmd) ~= 'table' or vim.fn.executable(cmd[1]) == 1
  health[is_there and 'ok' or 'error'](
    'server command: ' .. (type(cmd) == 'table' and table.concat(cmd, ' ') or 'a function'),
    { 'see :h foretype-server' }
  )
  local client = vim.lsp.get_clients({ name = 'foretype' })[1]
  if client then return check_client(client) end
  health.warn('no server runs', { 'open a file, or see :Foretype log' })
end

return M

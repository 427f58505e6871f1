--- What keys, commands and status lines call, and when ghost text is wanted. Does not paint.

local config = require('foretype.config')
local ghost = require('foretype.ghost')

local M = {}
local server_status = { state = 'starting' } ---@type { state: string }
local mapped_buf ---@type integer? Buffer in which the keys are ours.
local covered = {} ---@type table<string, table> Its own mappings under ours, by key.

-- Space, also over a line end, then a word or a run of other characters.
local WORD = [[^\_s*\%(\k\+\|\%(\k\@!\n\@!\S\)\+\|$\)]]
local LINE = [[^\n\=[^\n]*]]

M.actions = { ---@type table<foretype.Action, fun()>
  accept = function() ghost.accept() end,
  accept_word = function() ghost.accept(WORD) end,
  accept_line = function() ghost.accept(LINE) end,
  dismiss = ghost.dismiss,
  next = function() ghost.cycle(1) end,
  previous = function() ghost.cycle(-1) end,
}

---Map the keys while ghost text is visible; at other times they mean what they meant before.
---@param action foretype.Action
---@param is_visible boolean
local function map_key(action, is_visible)
  local key, desc = config.key(action), 'Foretype: ' .. action
  local present = key and vim.fn.maparg(key, 'i', false, true) or {}
  if key and is_visible then
    covered[key] = present.buffer == 1 and present or nil
    vim.keymap.set('i', key, M.actions[action], { buffer = 0, desc = desc })
  elseif key and present.desc == desc then
    vim.keymap.del('i', key, { buffer = 0 })
    if covered[key] then vim.fn.mapset(covered[key]) end
  end
end

function ghost.on_visible(buf, is_visible)
  if is_visible == (mapped_buf == buf) then return end
  mapped_buf = is_visible and buf or nil
  vim.api.nvim_buf_call(buf, function()
    for _, action in ipairs({ 'accept', 'accept_word', 'accept_line', 'dismiss' }) do
      map_key(action, is_visible)
    end
  end)
end

---Whether ghost text may appear now: switched on, in Insert mode, with no menu open, no macro
---recorded or played (it could not be played back), and not painted by Neovim's own client.
---@return boolean
local function is_wanted()
  local core = vim.lsp.inline_completion
  return config.is_enabled()
    and vim.startswith(vim.api.nvim_get_mode().mode, 'i')
    and vim.fn.pumvisible() == 0
    and vim.fn.reg_recording() .. vim.fn.reg_executing() == ''
    and not (core and core.is_enabled({ bufnr = 0 }))
end

---Keep ghost text true to the buffer; called on every change and move in Insert mode.
---@param may_request boolean
function M.follow(may_request)
  if is_wanted() then return ghost.follow(may_request) end
  ghost.dismiss()
end

---@return vim.lsp.Client? client Of the current buffer.
local function attached() return vim.lsp.get_clients({ bufnr = 0, name = 'foretype' })[1] end

---For a status line: '' where no server is attached, else such as 'foretype: ready'.
---@return string
function M.status()
  if not attached() then return '' end
  return 'foretype: ' .. (config.is_enabled() and server_status.state or 'off')
end

---@param status { state: string }
function M.set_server_status(status)
  server_status = status
  vim.cmd.redrawstatus({ bang = true })
end

---Say in one line what `foretype/status` answered.
---@param status { facts: string[] }
---@return string
function M.describe(status) return table.concat(status.facts, ', ') end

M.commands = {} ---@type table<string, fun(argument?: string)> Of `:Foretype`.

---Switch ghost text on or off, in this buffer or everywhere.
---@param scope? string 'global' for everywhere.
function M.commands.toggle(scope)
  local is_enabled, is_global = config.is_enabled(), scope == 'global'
  if is_global then vim.b.foretype_enabled = nil end
  vim[is_global and 'g' or 'b'].foretype_enabled = not is_enabled
  M.follow(true)
  vim.cmd.redrawstatus({ bang = true })
end

---Say what the server does.
function M.commands.status()
  local client = attached()
  if not client then return vim.notify('foretype: no server runs for this buffer') end
  client:request(
    'foretype/status',
    vim.empty_dict(),
    function(err, status) vim.notify('foretype: ' .. (err and err.message or M.describe(status))) end
  )
end

---Start the server anew, also if it died.
function M.commands.restart()
  for _, client in ipairs(vim.lsp.get_clients({ name = 'foretype' })) do
    client:stop(true)
  end
  vim.wait(2000, function() return #vim.lsp.get_clients({ name = 'foretype' }) == 0 end, 10)
  server_status = { state = 'starting' }
  vim.lsp.enable('foretype')
end

---Open the log, in which Neovim keeps what servers say on stderr.
function M.commands.log() vim.cmd.tabedit(vim.fn.fnameescape(vim.lsp.log.get_filename())) end

return M

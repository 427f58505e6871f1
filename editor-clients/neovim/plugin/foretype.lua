--- Loaded by Neovim at start: ties events, keys and the command to the modules.

if vim.g.loaded_foretype then return end
vim.g.loaded_foretype = true
if vim.fn.has('nvim-0.11') == 0 then error('foretype needs Neovim 0.11 or newer') end

local foretype = require('foretype')
local core_hint = vim.fn.hlexists('ComplHint') == 1 and 'ComplHint' or 'NonText'
vim.api.nvim_set_hl(0, 'ForetypeGhost', { link = core_hint, default = true })

local group = vim.api.nvim_create_augroup('foretype', {})
---@param events string|string[]
---@param callback fun()
local function on(events, callback)
  vim.api.nvim_create_autocmd(events, { group = group, callback = callback })
end
on({ 'TextChangedI', 'TextChangedP' }, function() foretype.follow(true) end)
on('CursorMovedI', function() foretype.follow(false) end)
-- At InsertEnter itself the mode is still the one before. <C-c> ends it without InsertLeave.
on('InsertEnter', vim.schedule_wrap(function() foretype.follow(true) end))
on({ 'ModeChanged', 'BufLeave', 'WinLeave' }, function() foretype.actions.dismiss() end)

for _, action in ipairs({ 'next', 'previous' }) do
  local key = require('foretype.config').key(action)
  if key and vim.fn.maparg(key, 'i') == '' then
    vim.keymap.set('i', key, foretype.actions[action], { desc = 'Foretype: ' .. action })
  end
end

vim.api.nvim_create_user_command('Foretype', function(call)
  local run = foretype.commands[call.fargs[1]]
  if not run then return vim.notify('foretype: no command ' .. call.args, vim.log.levels.ERROR) end
  run(call.fargs[2])
end, {
  nargs = '+',
  desc = 'Foretype: toggle [global], status, restart, log',
  complete = function(start)
    local names = { 'global', 'log', 'restart', 'status', 'toggle' }
    return vim.tbl_filter(function(name) return vim.startswith(name, start) end, names)
  end,
})

vim.lsp.enable('foretype')

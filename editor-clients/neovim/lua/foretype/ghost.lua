--- Ghost text at the cursor: asked for, painted, typed along, accepted. One at a time.
--- Does not know keys, commands, or when completions are wanted.

local api, fn = vim.api, vim.fn
local METHOD = 'textDocument/inlineCompletion'
local NAMESPACE = api.nvim_create_namespace('foretype')
local MARK = 1 -- One mark, rewritten in place: growing text is never blank in between.

---@class foretype.Item What the server sends.
---@field insertText string
---@field range? lsp.Range
---@field command? lsp.Command
---@field data? { id: string, confidence: number }

---@class foretype.Candidate
---@field item foretype.Item
---@field text string The item's text with the line ends of a buffer.
---@field n_replaced integer Bytes after the cursor that the text replaces.

---@class foretype.Ghost
---@field client vim.lsp.Client
---@field buf integer
---@field row integer Line of the cursor at the request, from 1.
---@field before string Text of that line before the cursor at the request.
---@field after string Text of that line after it.
---@field token? string Names the growing answer.
---@field request_id? integer Until the answer comes.
---@field candidates foretype.Candidate[]
---@field index integer

local M = { AUTOMATIC = 2, INVOKED = 1 } -- lsp.InlineCompletionTriggerKind
local shown ---@type foretype.Ghost?
local awaited ---@type foretype.Ghost? May be the one that is shown: its text still grows.
local last_token, reported_id = 0, nil ---@type integer, string?

---@type fun(buf: integer, is_visible: boolean) Called when ghost text appears or disappears.
M.on_visible = function() end

---@return integer row From 1.
---@return integer col In bytes.
local function cursor() return unpack(api.nvim_win_get_cursor(0)) end

---Return what was typed since the request; nothing if anything else happened.
---@param ghost foretype.Ghost
---@return string?
local function typed_since(ghost)
  local row, col = cursor()
  local after = api.nvim_get_current_line():sub(col + 1)
  if api.nvim_get_current_buf() ~= ghost.buf or row < ghost.row or after ~= ghost.after then
    return
  end
  local lines = api.nvim_buf_get_text(0, ghost.row - 1, 0, row - 1, col, {})
  local text = table.concat(lines, '\n')
  if vim.startswith(text, ghost.before) then return text:sub(#ghost.before + 1) end
end

---Return the part of the candidate that is still to type; nothing if it is none or does not fit.
---@param ghost foretype.Ghost?
---@return string? rest
---@return string? typed
local function rest_of(ghost)
  local candidate = ghost and ghost.candidates[ghost.index]
  local typed = ghost and candidate and typed_since(ghost)
  if candidate and typed and typed ~= candidate.text and vim.startswith(candidate.text, typed) then
    return candidate.text:sub(#typed + 1), typed
  end
end

---@param ghost foretype.Ghost
---@param item foretype.Item
---@return foretype.Candidate
local function candidate_of(ghost, item)
  local line, encoding = ghost.before .. ghost.after, ghost.client.offset_encoding
  local stop = item.range and vim.str_byteindex(line, encoding, item.range['end'].character, false)
  return {
    item = item,
    text = item.insertText:gsub('\r\n?', '\n'),
    n_replaced = math.max((stop or 0) - #ghost.before, 0),
  }
end

---Return a line with its tabs as the spaces that they take in the buffer.
---@param line string
---@param column integer Screen column that the line starts in.
---@return string
local function expand_tabs(line, column)
  local expanded = ''
  for text, tab in line:gmatch('([^\t]*)(\t?)') do
    expanded = expanded .. text
    local width = fn.strdisplaywidth(tab, column + fn.strdisplaywidth(expanded))
    expanded = expanded .. (' '):rep(width)
  end
  return expanded
end

---Paint text at the cursor; text after the cursor moves behind it, as it will on acceptance.
---@param ghost foretype.Ghost
---@param text string
local function paint(ghost, text)
  local row, col = cursor()
  local column = fn.strdisplaywidth(api.nvim_get_current_line():sub(1, col))
  local lines = {} ---@type [string, string][][]
  for i, line in ipairs(vim.split(text, '\n')) do
    lines[i] = { { expand_tabs(line, i == 1 and column or 0), 'ForetypeGhost' } }
  end
  local n_replaced = ghost.candidates[ghost.index].n_replaced
  local is_over = ghost.after ~= '' and (#lines > 1 or n_replaced > 0)
  if is_over then
    table.insert(lines[#lines], { ghost.after:sub(n_replaced + 1), 'Normal' })
    table.insert(lines[1], { (' '):rep(fn.strdisplaywidth(ghost.after)), 'Normal' })
  end
  api.nvim_buf_set_extmark(ghost.buf, NAMESPACE, row - 1, col, {
    id = MARK,
    virt_text = lines[1],
    virt_text_pos = is_over and 'overlay' or 'inline',
    virt_lines = { unpack(lines, 2) },
  })
  M.on_visible(ghost.buf, true)
end

---Paint what is still to type; return whether there is anything.
---@return boolean
local function render()
  local rest = rest_of(shown)
  if not (shown and rest) then return false end
  paint(shown, rest)
  local item = shown.candidates[shown.index].item
  local id = item.data and item.data.id
  if id ~= reported_id then
    reported_id = id
    shown.client:notify('textDocument/didShowCompletion', { item = item })
  end
  return true
end

---Show what came in for a request, if it is still the newest one.
---@param ghost foretype.Ghost
---@param items foretype.Item[]
---@param step? integer Candidates to move on, if the first is shown already.
local function offer(ghost, items, step)
  local is_inserting = vim.startswith(api.nvim_get_mode().mode, 'i')
  if ghost ~= awaited or #items == 0 or not is_inserting then return end
  ghost.candidates = vim.tbl_map(function(item) return candidate_of(ghost, item) end, items)
  if step and rest_of(shown) == rest_of(ghost) then ghost.index = step % #items + 1 end
  shown = ghost
  if not render() then M.dismiss() end
end

---Forget what is shown and cancel what is awaited.
function M.dismiss()
  if awaited and awaited.request_id then awaited.client:cancel_request(awaited.request_id) end
  local buf = shown and shown.buf
  shown, awaited = nil, nil
  if buf and api.nvim_buf_is_valid(buf) then
    api.nvim_buf_del_extmark(buf, NAMESPACE, MARK)
    M.on_visible(buf, false)
  end
end

---Ask for candidates at the cursor.
---@param trigger integer
---@param step? integer Candidates to move on from the shown one.
function M.request(trigger, step)
  local client = vim.lsp.get_clients({ bufnr = 0, name = 'foretype', method = METHOD })[1]
  if not client then return end
  if awaited and awaited.request_id then awaited.client:cancel_request(awaited.request_id) end
  local row, col = cursor()
  local line, buf = api.nvim_get_current_line(), api.nvim_get_current_buf()
  local ghost = { client = client, buf = buf, row = row, candidates = {}, index = 1 }
  ghost.before, ghost.after = line:sub(1, col), line:sub(col + 1)
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = trigger }
  last_token = last_token + 1
  ghost.token = trigger == M.AUTOMATIC and 'foretype-' .. last_token or nil
  params.partialResultToken = ghost.token
  awaited = ghost
  _, ghost.request_id = client:request(METHOD, params, function(err, result)
    ghost.request_id = nil
    if err then vim.lsp.log.warn('foretype', err) end
    offer(ghost, result and (result.items or result) or {}, step)
  end, buf)
end

---Take the answer so far of a growing request; return whether the token is one of ours.
---@param token lsp.ProgressToken
---@param items foretype.Item[]
---@return boolean
function M.grow(token, items)
  if awaited and awaited.token == token then offer(awaited, items) end
  return type(token) == 'string' and vim.startswith(token, 'foretype-')
end

---Follow the cursor: keep what was typed along, drop what no longer fits, ask anew if `may_request`.
---@param may_request boolean
function M.follow(may_request)
  local is_unchanged = not shown and awaited and typed_since(awaited) == ''
  if is_unchanged or render() then return end
  M.dismiss()
  if may_request then M.request(M.AUTOMATIC) end
end

---Show the candidate that is `step` further; ask for more than one first.
---@param step integer
function M.cycle(step)
  if not shown or #shown.candidates < 2 then return M.request(M.INVOKED, step) end
  repeat
    shown.index = (shown.index - 1 + step) % #shown.candidates + 1
  until rest_of(shown)
  render()
end

---Put the candidate, or the part of it that a Vim pattern matches, into the buffer.
---@param pattern? string
function M.accept(pattern)
  local ghost, rest, typed = shown, rest_of(shown)
  if not (ghost and rest) then return end
  local client, candidate = ghost.client, ghost.candidates[ghost.index]
  local item, row, col = candidate.item, cursor()
  local part = pattern and fn.matchstr(rest, pattern) or rest
  if part == rest then
    M.dismiss()
    api.nvim_buf_set_text(0, row - 1, col, row - 1, col + candidate.n_replaced, {})
  else
    paint(ghost, rest:sub(#part + 1)) -- The mark moves with the text that is put before it.
  end
  api.nvim_paste(part, false, -1) -- Unlike nvim_buf_set_text, `.` repeats it.
  vim.cmd('silent! foldopen!')
  if part ~= rest then
    local accepted = typed .. part
    if item.insertText:find('\r\n') then accepted = accepted:gsub('\n', '\r\n') end
    local params = { item = item, acceptedLength = vim.str_utfindex(accepted, 'utf-16') }
    client:notify('textDocument/didPartiallyAcceptCompletion', params)
  elseif item.command then
    client:exec_cmd(item.command, { bufnr = ghost.buf })
  end
end

return M

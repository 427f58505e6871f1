--- How the server is started; `vim.lsp.config('foretype', { ... })` changes any of it.

---@type vim.lsp.Config
return {
  cmd = require('foretype.config').server_command(),
  root_markers = { '.git' },
  -- One server for all projects: each would hold the model in memory once more.
  reuse_client = function(client, config)
    return client.name == config.name and not client:is_stopped()
  end,
  init_options = { streaming = true, status = true },
  handlers = {
    ['$/progress'] = function(err, params, ctx)
      if not require('foretype.ghost').grow(params.token, params.value) then
        return vim.lsp.handlers['$/progress'](err, params, ctx)
      end
    end,
    ['foretype/status'] = function(_, status) require('foretype').set_server_status(status) end,
  },
}

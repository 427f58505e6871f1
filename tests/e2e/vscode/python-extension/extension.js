const { Uri } = require("vscode");

exports.activate = () => ({
  environments: {
    getActiveEnvironmentPath: () => ({ path: process.env.PYTHON_OF_THE_EXTENSION }),
    resolveEnvironment: async ({ path }) => ({ executable: { uri: Uri.file(path) } }),
  },
});

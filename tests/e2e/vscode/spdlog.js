// Stands in for VS Code's native module of this name, which scripts/install-vscode doesn't build:
// without it log channels stay empty. Writes each line at once; knows neither patterns nor rotation.
const fs = require("node:fs");
const path = require("node:path");

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];

class Logger {
  level = LEVELS.indexOf("info");
  isPlain = false;

  constructor(_kind, _name, file) {
    this.file = file;
  }

  getLevel() {
    return this.level;
  }

  setLevel(level) {
    this.level = level;
  }

  setPattern() {}

  clearFormatters() {
    this.isPlain = true;
  }

  flush() {}

  drop() {}
}

LEVELS.forEach((name, level) => {
  Logger.prototype[name] = function (message) {
    if (level < this.level) return;
    const time = new Date().toISOString().replace("T", " ").replace("Z", "");
    fs.appendFileSync(this.file, this.isPlain ? message : `${time} [${name}] ${message}\n`);
  };
});

async function createLogger(name, file) {
  await fs.promises.mkdir(path.dirname(file), { recursive: true });
  return new Logger("", name, file);
}

exports.version = 0;
exports.setLevel = () => {};
exports.setFlushOn = () => {};
exports.Logger = Logger;
exports.createRotatingLogger = createLogger;
exports.createAsyncRotatingLogger = createLogger;

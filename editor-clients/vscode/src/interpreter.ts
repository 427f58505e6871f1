/** Finds a Python that has Foretype's server, or makes an environment for it. */
import { execFile, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import * as path from "node:path";
import * as vscode from "vscode";

export interface ServerCommand {
  command: string;
  args: string[];
}

/** There is no server to start; the message says what to set. */
export class NoServerError extends Error {}

/** With a folder of our own as `cwd`: a folder `server` of the workspace is never imported. */
export const SAFE_ENV = { ...process.env, PYTHONSAFEPATH: "1" };

const CHECK_TIMEOUT_MS = 30_000;
const IS_WINDOWS = process.platform === "win32";
const PYTHONS = IS_WINDOWS ? ["py", "python"] : ["python3", "python", "python3.12", "python3.11"];
const IS_NEW_ENOUGH =
  "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed')";
const HAS_FORETYPE = `${IS_NEW_ENOUGH}
from importlib.util import find_spec
find_spec('server.options') or sys.exit('Foretype is not installed there')`;
const CAN_MAKE_ENVIRONMENT = `${IS_NEW_ENOUGH}; import ensurepip, venv`;

/** Return why a command fails, in one line, or undefined if it doesn't. */
function complaint(command: string, args: string[], cwd: string): Promise<string | undefined> {
  const options = { cwd, env: SAFE_ENV, timeout: CHECK_TIMEOUT_MS };
  return new Promise((resolve) =>
    execFile(command, args, options, (error, _, stderr) =>
      resolve(error ? stderr.trim().split("\n").pop() || error.message : undefined),
    ),
  );
}

/**
 * Return the interpreter that the Python extension has chosen. It isn't asked in a workspace that
 * isn't trusted: the interpreter may be a file of the workspace.
 */
async function chosenInterpreter(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension("ms-python.python");
  if (!extension || !vscode.workspace.isTrusted) return undefined;
  const { environments } = (await extension.activate()) ?? {};
  const active = environments?.getActiveEnvironmentPath(
    vscode.workspace.workspaceFolders?.[0]?.uri,
  );
  return (await environments?.resolveEnvironment(active))?.executable.uri?.fsPath;
}

const privatePython = (storage: string): string =>
  path.join(storage, "server", ...(IS_WINDOWS ? ["Scripts", "python.exe"] : ["bin", "python"]));

/**
 * Find the server: the setting alone if there is one, else the Python extension's interpreter,
 * `foretype-server` on the search path, our own environment.
 *
 * @param storage a folder of the extension's own; programs are started there.
 * @throws NoServerError
 */
export async function findServer(
  storage: string,
  log: vscode.LogOutputChannel,
): Promise<ServerCommand> {
  await mkdir(storage, { recursive: true });
  const asModule = { args: ["-m", "server"], check: ["-c", HAS_FORETYPE] };
  const set = vscode.workspace.getConfiguration("foretype.client").get("interpreter", "");
  const candidates = set
    ? [{ command: set, ...asModule }]
    : [
        { command: await chosenInterpreter(), ...asModule },
        { command: "foretype-server", args: [], check: ["--version"] },
        { command: privatePython(storage), ...asModule },
      ];
  for (const { command, args, check } of candidates) {
    const reason = command && (await complaint(command, check, storage));
    if (command && !reason) return { command, args };
    if (command) log.info(`No server from ${command}: ${reason}`);
    if (set) {
      throw new NoServerError(
        `Foretype can't run with ${set}, which foretype.client.interpreter names: ${reason}`,
      );
    }
  }
  throw new NoServerError(
    "Foretype's server is not installed. Set foretype.client.interpreter to a Python that has " +
      "it, or let Foretype make an environment of its own.",
  );
}

/** Make our own environment with pip, showing progress; the user has agreed. */
export async function installServer(storage: string, log: vscode.LogOutputChannel): Promise<void> {
  await mkdir(storage, { recursive: true });
  const python = await findPython(storage);
  const requirement = vscode.workspace.getConfiguration("foretype.client").get("requirement", "");
  const where = { location: vscode.ProgressLocation.Notification, title: "Foretype" };
  await vscode.window.withProgress({ ...where, cancellable: true }, async (progress, token) => {
    const run = (command: string, args: string[]): Promise<void> =>
      runShown(command, args, storage, token, (message) => {
        log.info(message);
        progress.report({ message });
      });
    await run(python, ["-m", "venv", "--clear", path.join(storage, "server")]);
    await run(privatePython(storage), ["-m", "pip", "install", "--progress-bar=off", requirement]);
  });
}

async function findPython(storage: string): Promise<string> {
  for (const python of [await chosenInterpreter(), ...PYTHONS]) {
    if (python && !(await complaint(python, ["-c", CAN_MAKE_ENVIRONMENT], storage))) return python;
  }
  throw new NoServerError(
    "Foretype found no Python 3.11 or newer with venv and pip. Install one and try again, " +
      "or set foretype.client.interpreter.",
  );
}

/** Run a program line by line; its last line is the error if it fails. */
function runShown(
  command: string,
  args: string[],
  cwd: string,
  token: vscode.CancellationToken,
  show: (line: string) => void,
): Promise<void> {
  show([command, ...args].join(" "));
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: SAFE_ENV, stdio: ["ignore", "pipe", "pipe"] });
    let last = "";
    const read = (data: Buffer): void => {
      for (const line of data.toString().split(/\r?\n/).filter(Boolean)) show((last = line));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    token.onCancellationRequested(() => child.kill());
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else if (token.isCancellationRequested) reject(new vscode.CancellationError());
      else reject(new Error(`Foretype's environment could not be made: ${last}`));
    });
  });
}

/** Finds a Python that has Foretype's server, or makes an environment for it when the user agrees. */
import { execFile, spawn } from "node:child_process";
import { access, constants, mkdir } from "node:fs/promises";
import * as path from "node:path";
import * as vscode from "vscode";

export interface ServerCommand {
  command: string;
  args: string[];
}

/** No server was found; the message says where it was looked for and what to set. */
export class NoServerError extends Error {}

const IS_WINDOWS = process.platform === "win32";
const CHECK_TIMEOUT_MS = 30_000;

/** Keeps a folder `server/` of the workspace from being imported in place of ours, with `cwd`. */
export const SAFE_ENV = { ...process.env, PYTHONSAFEPATH: "1" };

const IS_NEW_ENOUGH = "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed, it is ' + sys.version.split()[0])";
const HAS_FORETYPE = `${IS_NEW_ENOUGH}
import importlib.util as u; u.find_spec('server.options') or sys.exit('Foretype is not installed there')`;
const CAN_MAKE_ENVIRONMENT = `${IS_NEW_ENOUGH}
import venv, ensurepip`;

/** Return why `python` fails the check, in one line, or undefined if it passes. */
function complaint(python: string, check: string, cwd: string): Promise<string | undefined> {
  return new Promise((resolve) =>
    execFile(python, ["-c", check], { cwd, env: SAFE_ENV, timeout: CHECK_TIMEOUT_MS }, (error, _, stderr) =>
      resolve(error ? stderr.trim().split("\n").pop() || error.message : undefined)),
  );
}

/** Return the interpreter that the Python extension has chosen. It isn't asked in a workspace that
 * isn't trusted: the interpreter may be a file of the workspace. */
async function chosenInterpreter(): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension("ms-python.python");
  if (!extension || !vscode.workspace.isTrusted) return undefined;
  const { environments } = (await extension.activate()) ?? {};
  const resource = vscode.window.activeTextEditor?.document.uri ?? vscode.workspace.workspaceFolders?.[0]?.uri;
  const environment = await environments?.resolveEnvironment(environments.getActiveEnvironmentPath(resource));
  return environment?.executable.uri?.fsPath;
}

/** Return the first absolute folder of the search path that holds the program. */
async function onPath(program: string): Promise<string | undefined> {
  const file = IS_WINDOWS ? `${program}.exe` : program;
  for (const folder of (process.env.PATH ?? "").split(path.delimiter).filter(path.isAbsolute)) {
    const found = await access(path.join(folder, file), constants.X_OK).then(() => true, () => false);
    if (found) return path.join(folder, file);
  }
  return undefined;
}

const privatePython = (storage: string): string =>
  path.join(storage, "server", ...(IS_WINDOWS ? ["Scripts", "python.exe"] : ["bin", "python"]));

/**
 * Find the server: the setting, the Python extension's interpreter, the search path, then our own environment.
 *
 * @param storage a folder of the extension's own, where programs are started.
 * @throws NoServerError
 */
export async function findServer(storage: string, log: vscode.LogOutputChannel): Promise<ServerCommand> {
  await mkdir(storage, { recursive: true });
  const run = (python: string): ServerCommand => ({ command: python, args: ["-m", "server"] });
  const set = vscode.workspace.getConfiguration("foretype.client").get("interpreter", "");
  if (set) {
    const reason = await complaint(set, HAS_FORETYPE, storage);
    if (reason) throw new NoServerError(`Foretype can't run with ${set}, which the setting foretype.client.interpreter names: ${reason}.`);
    return run(set);
  }
  const chosen = await chosenInterpreter();
  if (chosen) {
    const reason = await complaint(chosen, HAS_FORETYPE, storage);
    if (!reason) return run(chosen);
    log.info(`Not the Python extension's interpreter ${chosen}: ${reason}`);
  }
  const program = await onPath("foretype-server");
  if (program) return { command: program, args: [] };
  const own = privatePython(storage);
  if (!(await complaint(own, HAS_FORETYPE, storage))) return run(own);
  throw new NoServerError("Foretype's server is not installed. Set foretype.client.interpreter to a Python that has it, or let Foretype make an environment of its own.");
}

/** Make our own environment with pip, showing progress; the user has agreed. */
export async function installServer(storage: string, log: vscode.LogOutputChannel): Promise<void> {
  await mkdir(storage, { recursive: true });
  const python = await findPython(storage, log);
  const requirement = vscode.workspace.getConfiguration("foretype.client").get("requirement", "foretype");
  await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "Foretype", cancellable: true },
    async (progress, token) => {
      const step = (command: string, args: string[]): Promise<void> =>
        runLogged(command, args, storage, log, token, (message) => progress.report({ message }));
      progress.report({ message: `making an environment with ${python}` });
      await step(python, ["-m", "venv", "--clear", path.join(storage, "server")]);
      await step(privatePython(storage), ["-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", requirement]);
    },
  );
}

async function findPython(storage: string, log: vscode.LogOutputChannel): Promise<string> {
  const names = IS_WINDOWS ? ["py", "python"] : ["python3", "python", "python3.13", "python3.12", "python3.11"];
  const found = await Promise.all(names.map(onPath));
  for (const python of [await chosenInterpreter(), ...found]) {
    const reason = python && (await complaint(python, CAN_MAKE_ENVIRONMENT, storage));
    if (python && !reason) return python;
    if (python) log.info(`No environment with ${python}: ${reason}`);
  }
  throw new NoServerError("Foretype found no Python 3.11 or newer with venv and pip. Install one, then set foretype.client.interpreter or try again.");
}

function runLogged(
  command: string, args: string[], cwd: string, log: vscode.LogOutputChannel,
  token: vscode.CancellationToken, report: (line: string) => void,
): Promise<void> {
  log.info([command, ...args].join(" "));
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: SAFE_ENV, stdio: ["ignore", "pipe", "pipe"] });
    let last = "";
    const read = (data: Buffer): void => {
      for (const line of data.toString().split("\n").filter((text) => text.trim())) {
        log.info((last = line.trimEnd()));
        report(last.slice(0, 120));
      }
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

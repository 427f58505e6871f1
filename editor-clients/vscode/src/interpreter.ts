/** Finds a Python that has Foretype's server, or makes an environment for it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import * as path from "node:path";
import { createInterface } from "node:readline";
import * as vscode from "vscode";

export interface ServerCommand {
  command: string;
  args: string[];
}

/** With a folder of our own as `cwd`: a folder `server` of the workspace is never imported. */
export const SAFE_ENV = { ...process.env, PYTHONSAFEPATH: "1" };

const CHECK_TIMEOUT_MS = 30_000;
const IS_WINDOWS = process.platform === "win32";
const PYTHONS = IS_WINDOWS ? ["py", "python"] : ["python3", "python", "python3.12", "python3.11"];
const HAS_FORETYPE = "import importlib.metadata as metadata; metadata.version('foretype')";
const CAN_MAKE_ENVIRONMENT =
  "import ensurepip, sys, venv; sys.version_info >= (3, 11) or sys.exit('older than 3.11')";

/** Run a program, showing each line that it writes; if it fails, its last line is the error. */
async function run(
  command: string,
  args: string[],
  { cwd, signal, show }: { cwd: string; signal: AbortSignal; show?: (line: string) => void },
): Promise<void> {
  const options = { cwd, signal, env: SAFE_ENV };
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  let last = "";
  const read = (line: string): void => show?.((last = line));
  for (const input of [child.stdout, child.stderr]) createInterface({ input }).on("line", read);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(last || `${command} ended with ${code}`);
}

/**
 * Return the first program whose check goes well; the log says why others are not taken.
 *
 * @throws what the last one said.
 */
async function firstThatRuns(
  candidates: (Partial<ServerCommand> & { check: string[] })[],
  cwd: string,
  log: vscode.LogOutputChannel,
): Promise<ServerCommand> {
  let reason = "";
  for (const { command, args = [], check } of candidates) {
    if (!command) continue;
    try {
      await run(command, check, { cwd, signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
      return { command, args };
    } catch (error) {
      log.info(`Not ${command}: ${(reason = (error as Error).message)}`);
    }
  }
  throw new Error(reason);
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
 * @throws if there is none; the message says what to set.
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
        { command: "foretype-server", check: ["--version"] },
        { command: privatePython(storage), ...asModule },
      ];
  return firstThatRuns(candidates, storage, log).catch((error: Error) => {
    throw new Error(
      set
        ? `Foretype can't run with ${set}, which foretype.client.interpreter names: ${error.message}`
        : "Foretype's server is not installed. Set foretype.client.interpreter to a Python that " +
            "has it, or let Foretype make an environment of its own.",
    );
  });
}

/** Make our own environment with pip, showing progress; the user has agreed. */
export async function installServer(storage: string, log: vscode.LogOutputChannel): Promise<void> {
  await mkdir(storage, { recursive: true });
  const pythons = [await chosenInterpreter(), ...PYTHONS].map((command) => ({
    command,
    args: ["-m", "venv", "--clear", path.join(storage, "server")],
    check: ["-c", CAN_MAKE_ENVIRONMENT],
  }));
  const makeEnvironment = await firstThatRuns(pythons, storage, log).catch(() => {
    throw new Error(
      "Foretype found no Python 3.11 or newer with venv and pip. Install one and try again, " +
        "or set foretype.client.interpreter.",
    );
  });
  const requirement = vscode.workspace.getConfiguration("foretype.client").get("requirement", "");
  const install = {
    command: privatePython(storage),
    args: ["-m", "pip", "install", "--progress-bar=off", requirement],
  };
  const location = vscode.ProgressLocation.Notification;
  const shown = { location, title: "Foretype", cancellable: true };
  await vscode.window.withProgress(shown, async (progress, token) => {
    const abort = new AbortController();
    token.onCancellationRequested(() => abort.abort());
    const show = (message: string): void => {
      log.info(message);
      progress.report({ message });
    };
    for (const { command, args } of [makeEnvironment, install]) {
      show([command, ...args].join(" "));
      await run(command, args, { cwd: storage, signal: abort.signal, show }).catch(
        (error: Error) => {
          if (token.isCancellationRequested) throw new vscode.CancellationError();
          throw new Error(`Foretype's environment could not be made: ${error.message}`);
        },
      );
    }
  });
}

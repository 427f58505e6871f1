/** The one road by which the server is started, restarted and reported when it fails. */
import { createInterface } from "node:readline";
import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  LanguageClientOptions,
  TransportKind,
} from "vscode-languageclient/node";
import { findServer, installServer, NoServerError, SAFE_ENV } from "./interpreter";
import type { Status } from "./statusBar";

/** A server that ends more often than this in three minutes stays down. */
const MAX_CRASHES = 4;
const CRASH_WINDOW_MS = 180_000;

/** Logs its errors; what the user must see is shown once, by `Server`. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }
}

/** All settings of the server; `foretype.client` is ours alone. */
export function serverSettings(): Record<string, unknown> {
  const { client: _, ...settings } = vscode.workspace
    .getConfiguration()
    .get<Record<string, unknown>>("foretype", {});
  return settings;
}

export class Server implements vscode.Disposable {
  client: LanguageClient | undefined;
  readonly log = vscode.window.createOutputChannel("Foretype", { log: true });
  private readonly changed = new vscode.EventEmitter<Status>();
  private readonly progressed = new vscode.EventEmitter<number | undefined>();
  readonly onStatus = this.changed.event;
  /** Percent of a model that is loading, undefined when it's done. */
  readonly onProgress = this.progressed.event;
  private turn: Promise<void> = Promise.resolve();
  private crashes: number[] = [];

  constructor(
    private readonly storage: string,
    private readonly selector: vscode.DocumentFilter[],
  ) {}

  /** Start, or stop and start anew with what is set now. */
  restart(): Promise<void> {
    return this.inTurn(() => this.replaceClient());
  }

  /** Make the private environment that the user agreed to, then start. */
  install(): Promise<void> {
    return this.inTurn(async () => {
      await this.stopClient();
      await installServer(this.storage, this.log);
      await this.replaceClient();
    });
  }

  /** Hand changed settings to the server, or start it anew if they choose what runs. */
  settingsChanged(
    event: vscode.ConfigurationChangeEvent,
    { properties }: { properties: Record<string, { scope: string }> },
  ): void {
    const atStart = Object.keys(properties).filter((name) => properties[name]?.scope === "machine");
    const settings = { foretype: serverSettings() };
    if (atStart.some((name) => event.affectsConfiguration(name))) void this.restart();
    else if (event.affectsConfiguration("foretype"))
      void this.client?.sendNotification("workspace/didChangeConfiguration", { settings });
  }

  /** The last requests as a table of text, with their times and reasons. */
  async lastRequests(): Promise<string> {
    const answer = await this.client?.sendRequest<{ table: string }>("foretype/requests");
    return answer?.table ?? "No server runs.\n";
  }

  async dispose(): Promise<void> {
    await this.inTurn(() => this.stopClient());
    this.log.dispose();
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    return (this.turn = this.turn.then(work).catch((error: unknown) => this.fail(error)));
  }

  private async replaceClient(): Promise<void> {
    await this.stopClient();
    this.changed.fire({ state: "loading" });
    const executable = await findServer(this.storage, this.log);
    this.log.info(`Starting ${executable.command} ${executable.args.join(" ")}`);
    const options = { cwd: this.storage, env: SAFE_ENV };
    const client = new QuietClient(
      "foretype",
      "Foretype",
      { ...executable, transport: TransportKind.stdio, options },
      this.clientOptions(() => client === this.client && this.crashed()),
    );
    client.onNotification("foretype/status", (status: Status) => this.changed.fire(status));
    await client.start().catch((error: unknown) => {
      throw new Error(
        `Foretype's server did not start: ${error instanceof Error ? error.message : String(error)}. ` +
          "The log says why; foretype.client.interpreter names another Python.",
      );
    });
    this.client = client;
    void vscode.commands.executeCommand("setContext", "foretype.isRunning", true);
    client.sendRequest<Status>("foretype/status").then(
      (status) => this.changed.fire(status),
      (error: unknown) => this.log.warn(`No status: ${String(error)}`),
    );
  }

  private clientOptions(onClosed: () => void): LanguageClientOptions {
    return {
      documentSelector: this.selector as LanguageClientOptions["documentSelector"],
      outputChannel: this.log,
      initializationOptions: { ...serverSettings(), streaming: true, status: true },
      middleware: {
        provideInlineCompletionItems: () => [], // `GhostText` asks instead.
        handleWorkDoneProgress: (_, value) =>
          this.progressed.fire("percentage" in value ? value.percentage : undefined),
        workspace: { configuration: ({ items }) => items.map(serverSettings) },
      },
      initializationFailedHandler: () => false, // It is told once, by `fail`.
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          onClosed();
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
      stdioOptions: {
        stdout: () => undefined, // It belongs to the protocol.
        stderr: (lines) =>
          createInterface({ input: lines }).on("line", (line) => this.log.info(line)),
      },
    };
  }

  private async stopClient(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    if (client?.isRunning()) await client.stop();
    await client?.dispose();
  }

  private crashed(): void {
    this.client = undefined;
    const now = Date.now();
    this.crashes = [...this.crashes.filter((time) => now - time < CRASH_WINDOW_MS), now];
    if (this.crashes.length <= MAX_CRASHES) void this.restart();
    else
      this.fail(
        new Error(
          `Foretype's server ended ${this.crashes.length} times in three minutes and stays down. ` +
            "The log says why; 'Foretype: Restart the Server' tries again.",
        ),
      );
  }

  /** Show an error once, with what to do about it. */
  private fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    this.changed.fire({ state: "error", facts: [`error: ${message}`] });
    if (error instanceof vscode.CancellationError) return;
    this.log.error(message);
    const actions = {
      "Set Interpreter": "foretype.setInterpreter",
      "Show Log": "foretype.showLog",
    };
    const offered =
      error instanceof NoServerError
        ? { "Install Server": "foretype.install", ...actions }
        : actions;
    void vscode.window
      .showErrorMessage(message, ...Object.keys(offered))
      .then(
        (choice) =>
          choice && vscode.commands.executeCommand(offered[choice as keyof typeof offered]),
      );
  }
}

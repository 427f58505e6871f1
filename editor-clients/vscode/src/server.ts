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
import { findServer, installServer, SAFE_ENV } from "./interpreter";
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

export class Server {
  client: LanguageClient | undefined;
  readonly log = vscode.window.createOutputChannel("Foretype", { log: true });
  private turn: Promise<void> = Promise.resolve();
  private crashes: number[] = [];

  constructor(
    private readonly storage: string,
    private readonly documents: { scheme: string }[],
    private readonly onStatus: (status: Status) => void,
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

  /** Send a request of our own protocol; undefined if no server runs. */
  async ask<T>(method: string, params: object = {}): Promise<T | undefined> {
    return this.client?.isRunning() ? this.client.sendRequest<T>(method, params) : undefined;
  }

  /** Let the status be that of the document that the user turns to. */
  async turnTo(document?: vscode.TextDocument): Promise<void> {
    if (!document || !this.documents.some(({ scheme }) => scheme === document.uri.scheme)) return;
    const status = await this.ask<Status>("foretype/status", { uri: document.uri.toString() });
    if (status) this.onStatus(status);
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
    this.onStatus({ state: "loading" });
    const executable = await findServer(this.storage, this.log);
    this.log.info(`Starting ${executable.command} ${executable.args.join(" ")}`);
    const options = { cwd: this.storage, env: SAFE_ENV };
    const client = new QuietClient(
      "foretype",
      "Foretype",
      { ...executable, transport: TransportKind.stdio, options },
      this.clientOptions(() => client === this.client && this.crashed()),
    );
    client.onNotification("foretype/status", this.onStatus);
    await client.start().catch((error: unknown) => {
      throw new Error(
        `Foretype's server did not start: ${error instanceof Error ? error.message : String(error)}. ` +
          "The log says why; foretype.client.interpreter names another Python.",
      );
    });
    this.client = client;
    void vscode.commands.executeCommand("setContext", "foretype.isRunning", true);
  }

  private clientOptions(onClosed: () => void): LanguageClientOptions {
    return {
      documentSelector: this.documents,
      outputChannel: this.log,
      initializationOptions: {
        ...vscode.workspace.getConfiguration().get<object>("foretype"),
        streaming: true,
        status: true,
      },
      middleware: { provideInlineCompletionItems: () => [] }, // `GhostText` asks instead.
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
    this.onStatus({ state: "error", facts: [`error: ${message}`] });
    if (error instanceof vscode.CancellationError) return;
    this.log.error(message);
    const actions: Record<string, string> = {
      "Install Server": "foretype.install",
      "Set Interpreter": "foretype.setInterpreter",
      "Show Log": "foretype.showLog",
    };
    void vscode.window
      .showErrorMessage(message, ...Object.keys(actions))
      .then((choice) => choice && vscode.commands.executeCommand(actions[choice]!));
  }
}

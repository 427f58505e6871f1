/**
 * Ghost text that grows while the server writes. Knows nothing of what writes it.
 *
 * VS Code asks a provider once per change and keeps the answer. From 1.106 on it asks again,
 * without hiding what it shows, when the provider is registered anew and a trigger names it.
 */
import * as vscode from "vscode";
import {
  InlineCompletionItem,
  InlineCompletionRequest,
  LanguageClient,
  ProgressType,
  ResponseError,
} from "vscode-languageclient/node";
import { CursorLineItem, goesAlong, itemAfterTyping } from "./growth";

/** Below this the trigger command ignores its arguments, so only finished text is shown. */
const GROWS_SINCE = "1.106";
/** A trigger not acted on in this time was overtaken; measured: VS Code takes about 60 ms. */
const TRIGGER_TIMEOUT_MS = 400;
/** VS Code must have taken the last answer before it is asked again; chosen by trial. */
const SETTLE_MS = 15;

const textOf = (item: InlineCompletionItem): string =>
  typeof item.insertText === "string" ? item.insertText : item.insertText.value;

/** One request and its answer so far. */
class Answer {
  items: InlineCompletionItem[] = [];
  isDone = false;
  private readonly cancellation = new vscode.CancellationTokenSource();
  readonly token = this.cancellation.token;
  grown: Promise<void>;
  private wake!: () => void;
  private readonly line: string;

  constructor(
    readonly document: vscode.TextDocument,
    readonly start: vscode.Position,
    readonly selected?: string,
  ) {
    this.line = document.lineAt(start).text;
    this.grown = new Promise((resolve) => (this.wake = resolve));
  }

  take(items: InlineCompletionItem[]): void {
    if (items.length > 0) this.items = items;
    this.wake();
    this.grown = new Promise((resolve) => (this.wake = resolve));
  }

  /** End the request; nobody waits for it any more. */
  cancel(): void {
    this.cancellation.cancel();
    this.isDone = true;
    this.take([]);
  }

  /** What was typed since the request, or undefined if the cursor or the rest went elsewhere. */
  private typed(document: vscode.TextDocument, position: vscode.Position): string | undefined {
    if (document !== this.document || position.isBefore(this.start)) return undefined;
    const head = document.lineAt(this.start).text.slice(0, this.start.character);
    const tail = document.lineAt(position).text.slice(position.character);
    if (head + tail !== this.line) return undefined;
    return document.getText(new vscode.Range(this.start, position));
  }

  /** Whether this answers a request at `position`, now or when it has grown. */
  fits(document: vscode.TextDocument, position: vscode.Position): boolean {
    const typed = this.typed(document, position);
    if (typed === undefined || this.token.isCancellationRequested) return false;
    if (this.isDone) return this.at(document, position).length > 0;
    return this.items.length === 0
      ? typed === ""
      : this.items.some((item) => goesAlong(textOf(item), typed));
  }

  at(
    document: vscode.TextDocument,
    position: vscode.Position,
  ): [InlineCompletionItem, CursorLineItem][] {
    const typed = this.typed(document, position);
    if (typed === undefined) return [];
    return this.items.flatMap((item) => {
      const left = itemAfterTyping(textOf(item), typed, this.start.character);
      return left ? [[item, left] as [InlineCompletionItem, CursorLineItem]] : [];
    });
  }
}

export class GhostText implements vscode.InlineCompletionItemProvider, vscode.Disposable {
  private answer: Answer | undefined;
  private registration: vscode.Disposable;
  private trigger: NodeJS.Timeout | undefined;
  private isBehind = false;
  private isGrowing = false;
  private nRequests = 0;
  private readonly grows =
    vscode.version.localeCompare(GROWS_SINCE, undefined, { numeric: true }) >= 0;

  constructor(
    private readonly extensionId: string,
    private readonly selector: vscode.DocumentSelector,
    private readonly client: () => LanguageClient | undefined,
  ) {
    this.registration = this.register();
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    this.isBehind = false; // All that is there is handed out now; a trigger more would only disturb.
    this.settle();
    const client = this.client();
    if (!client?.isRunning()) return [];
    let answer = this.answer;
    const isAsked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    if (
      isAsked ||
      answer?.selected !== context.selectedCompletionInfo?.text ||
      !answer?.fits(document, position)
    ) {
      this.stop();
      answer = this.answer = this.ask(client, document, position, context, token);
    }
    while (!answer.isDone && answer.at(document, position).length === 0) await answer.grown;
    if (token.isCancellationRequested || this.answer !== answer) return [];
    const offered = answer.at(document, position);
    if (offered[0])
      void client.sendNotification("textDocument/didShowCompletion", { item: offered[0][0] });
    return offered.map(([item, left]) => {
      const replaced = item.range ? item.range.end.character - item.range.start.character : 0;
      const range = new vscode.Range(
        position.line,
        left.column,
        position.line,
        position.character + replaced,
      );
      const command = item.command && client.protocol2CodeConverter.asCommand(item.command);
      return new vscode.InlineCompletionItem(left.text, range, command);
    });
  }

  /** End the answer that grows; what is shown stays until VS Code asks anew. */
  stop(): void {
    if (this.answer && !this.answer.isDone) this.answer.cancel();
    this.setGrowing(false);
    this.answer = undefined;
    this.isBehind = false;
  }

  /** End it and take it off the screen. */
  dismiss(): void {
    this.stop();
    void vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
  }

  dispose(): void {
    this.stop();
    clearTimeout(this.trigger);
    this.registration.dispose();
  }

  /** Send a request. It obeys VS Code's token until text is there: growing cancels that token. */
  private ask(
    client: LanguageClient,
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Answer {
    const answer = new Answer(document, position, context.selectedCompletionInfo?.text);
    token.onCancellationRequested(() => answer.items.length === 0 && answer.cancel());
    const params = client.code2ProtocolConverter.asInlineCompletionParams(
      document,
      position,
      context,
    );
    const isAsked = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    // Candidates that the user goes through must hold still, so only what comes by itself grows.
    const partialResultToken = this.grows && !isAsked ? `foretype-${++this.nRequests}` : undefined;
    const progress = partialResultToken
      ? client.onProgress(new ProgressType<InlineCompletionItem[]>(), partialResultToken, (items) =>
          this.grow(answer, items),
        )
      : undefined;
    client
      .sendRequest(InlineCompletionRequest.type, { ...params, partialResultToken }, answer.token)
      .then((result) => this.finish(answer, Array.isArray(result) ? result : (result?.items ?? [])))
      .catch((error: unknown) => {
        this.finish(answer, []);
        if (!(error instanceof ResponseError))
          client.warn(`No answer to a request: ${String(error)}`);
      })
      .finally(() => progress?.dispose());
    return answer;
  }

  private grow(answer: Answer, items: InlineCompletionItem[]): void {
    const isFirst = answer.items.length === 0;
    answer.take(items);
    if (answer !== this.answer) return;
    if (isFirst) this.setGrowing(true);
    else this.show();
  }

  private finish(answer: Answer, items: InlineCompletionItem[]): void {
    answer.isDone = true;
    answer.take(items);
    if (answer === this.answer) this.setGrowing(false);
  }

  /** Let Escape end the growing while it lasts; else the next piece would bring the text back. */
  private setGrowing(isGrowing: boolean): void {
    if (isGrowing === this.isGrowing) return;
    this.isGrowing = isGrowing;
    void vscode.commands.executeCommand("setContext", "foretype.isGrowing", isGrowing);
  }

  /** Make VS Code ask again. One trigger in flight: each would cancel the one before. */
  private show(): void {
    const editor = vscode.window.activeTextEditor;
    if (!editor || !this.answer?.fits(editor.document, editor.selection.active)) return this.stop();
    this.isBehind = this.trigger !== undefined;
    if (this.isBehind) return;
    this.trigger = setTimeout(() => this.settle(), TRIGGER_TIMEOUT_MS);
    this.registration.dispose();
    this.registration = this.register();
    void vscode.commands.executeCommand("editor.action.inlineSuggest.trigger", {
      providerId: `${this.extensionId}:*`,
      explicit: false,
    });
  }

  /** VS Code asked: the next trigger may follow. */
  private settle(): void {
    clearTimeout(this.trigger);
    this.trigger = undefined;
    if (this.isBehind) setTimeout(() => this.isBehind && this.show(), SETTLE_MS);
  }

  private register(): vscode.Disposable {
    return vscode.languages.registerInlineCompletionItemProvider(this.selector, this);
  }
}

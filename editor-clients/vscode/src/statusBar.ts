/** The status bar item, which shows what the server says of itself and opens the menu. */
import * as vscode from "vscode";
import { Server } from "./server";

/** `foretype/status` of docs/protocol.md, as far as it is shown. */
export interface Status {
  state: "loading" | "ready" | "busy" | "off" | "inactive" | "error";
  /** A few words: model and device while completions come. */
  title?: string;
  /** All that is known, a fact a line, the state first. */
  facts?: string[];
}

const ICONS: Record<Status["state"], string> = {
  loading: "loading~spin",
  ready: "wand",
  busy: "loading~spin",
  off: "circle-slash",
  inactive: "dash",
  error: "error",
};

export class StatusBar implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem(
    "foretype.status",
    vscode.StatusBarAlignment.Right,
    100,
  );
  private readonly listeners: vscode.Disposable;
  private status: Status = { state: "loading" };
  private percentage: number | undefined;

  constructor(
    server: Server,
    private readonly isMuted: (document: vscode.TextDocument) => boolean,
  ) {
    this.item.name = "Foretype";
    this.item.command = "foretype.menu";
    this.listeners = vscode.Disposable.from(
      server.onStatus((status) => this.refresh((this.status = status))),
      server.onProgress((percentage) => {
        this.percentage = percentage;
        this.refresh();
      }),
      vscode.window.onDidChangeActiveTextEditor(() => this.refresh()),
    );
    this.refresh();
    this.item.show();
  }

  refresh(status = this.status): void {
    const document = vscode.window.activeTextEditor?.document;
    const isMuted = document && this.isMuted(document) && status.state !== "error";
    const { state, title, facts }: Status = isMuted
      ? { state: "off", facts: ["off: switched off for this file"] }
      : status;
    const isCounting = state === "loading" && this.percentage !== undefined;
    const percent = isCounting ? ` ${Math.round(this.percentage!)}%` : "";
    this.item.text = `$(${ICONS[state]}) ${title ?? "Foretype"}${percent}`;
    this.item.tooltip = `Foretype: ${(facts ?? [state]).join("\n")}`;
    this.item.accessibilityInformation = { label: `Foretype: ${state}`, role: "button" };
    this.item.backgroundColor =
      state === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  }

  dispose(): void {
    this.listeners.dispose();
    this.item.dispose();
  }
}

/** The status bar item, which shows what the server says of itself and opens the menu. */
import * as vscode from "vscode";
import { Server } from "./server";
import { Status, statusDetails, statusLine } from "./statusText";

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
    const isOff = document && this.isMuted(document) && status.state !== "error";
    const shown: Status = isOff
      ? { ...status, state: "off", message: "switched off for this file" }
      : status;
    this.item.text = statusLine(shown, this.percentage);
    this.item.tooltip = statusDetails(shown);
    this.item.accessibilityInformation = { label: `Foretype: ${shown.state}`, role: "button" };
    this.item.backgroundColor =
      shown.state === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  }

  dispose(): void {
    this.listeners.dispose();
    this.item.dispose();
  }
}

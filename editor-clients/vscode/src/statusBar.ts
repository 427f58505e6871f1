/** The status bar item, which shows what the server says of itself and opens the menu. */
import * as vscode from "vscode";

/** `foretype/status` of docs/protocol.md, as far as it is shown. */
export interface Status {
  state: "loading" | "ready" | "busy" | "off" | "inactive" | "error";
  /** A few words: model and device while completions come, a percentage while it loads. */
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

export function createStatusBarItem(): vscode.StatusBarItem {
  const right = vscode.StatusBarAlignment.Right;
  const item = vscode.window.createStatusBarItem("foretype.status", right, 100);
  item.name = "Foretype";
  item.command = "foretype.menu";
  item.show();
  return item;
}

export function showStatus(item: vscode.StatusBarItem, status: Status): void {
  const { state, title = "Foretype", facts = [state] } = status;
  item.text = `$(${ICONS[state]}) ${title}`;
  item.tooltip = `Foretype: ${facts.join("\n")}`;
  item.accessibilityInformation = { label: `Foretype: ${state}`, role: "button" };
  item.backgroundColor =
    state === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
}

/** The menu: what the server offers to switch and to choose, then what the editor does itself. */
import * as vscode from "vscode";
import type { Server } from "./server";

/** An entry of `foretype/menu` of docs/protocol.md, and what becomes of it if it is taken. */
interface Entry extends vscode.QuickPickItem {
  id?: string;
  icon?: string;
  command?: string;
  arguments?: unknown[];
  settings?: Record<string, unknown>;
  entries?: Entry[];
  setting?: string;
  prompt?: string;
}

const OWN: Entry[] = [
  { label: "Restart the Server", icon: "debug-restart", command: "foretype.restart" },
  { label: "Show the Last Requests", icon: "list-ordered", command: "foretype.showRequests" },
  { label: "Show the Log", icon: "output", command: "foretype.showLog" },
];

/** What there is for the document that the user is in. */
async function offered(server: Server): Promise<Entry[]> {
  const uri = vscode.window.activeTextEditor?.document.uri.toString();
  return (await server.ask<{ entries: Entry[] }>("foretype/menu", { uri }))?.entries ?? [];
}

export const showMenu = async (server: Server): Promise<void> =>
  choose([...(await offered(server)), ...OWN], "Foretype");

/** Take an entry without showing the menu. */
export const takeEntry = async (server: Server, id: string): Promise<void> =>
  take((await offered(server)).find((entry) => entry.id === id));

async function choose(entries: Entry[], title: string): Promise<void> {
  const items = entries.map((entry) => ({
    ...entry,
    iconPath: entry.icon === undefined ? undefined : new vscode.ThemeIcon(entry.icon),
  }));
  await take(await vscode.window.showQuickPick(items, { title }));
}

async function take(entry?: Entry): Promise<void> {
  if (entry?.entries) await choose(entry.entries, entry.label);
  if (entry?.command)
    await vscode.commands.executeCommand(entry.command, ...(entry.arguments ?? []));
  if (entry?.settings) await set(entry.settings);
  if (entry?.setting) {
    const value = await vscode.window.showInputBox({ prompt: entry.prompt });
    if (value !== undefined) await set({ [entry.setting]: value });
  }
}

/** Set for the user, or for the workspace where that has its own value. */
async function set(settings: Record<string, unknown>): Promise<void> {
  const configuration = vscode.workspace.getConfiguration("foretype");
  for (const [name, value] of Object.entries(settings)) {
    const isGlobal = configuration.inspect(name)?.workspaceValue === undefined;
    await configuration.update(name, value, isGlobal);
  }
}

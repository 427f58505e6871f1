/** Foretype in VS Code: puts the server, its ghost text, its status and the commands together. */
import * as vscode from "vscode";
import { GhostText } from "./ghostText";
import { showMenu, takeEntry } from "./menu";
import { Server } from "./server";
import { createStatusBarItem, showStatus, type Status } from "./statusBar";

const REQUESTS = vscode.Uri.parse("foretype:Last Requests.txt");
const DOCUMENTS = ["file", "untitled", "vscode-notebook-cell"].map((scheme) => ({ scheme }));

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const item = createStatusBarItem();
  const onStatus = (status: Status): void => {
    showStatus(item, status);
    if (status.state === "off") ghostText.dismiss();
  };
  const running = (server = new Server(context.globalStorageUri.fsPath, DOCUMENTS, onStatus));
  const ghostText = new GhostText(context.extension.id, DOCUMENTS, () => running.client);
  const asked = new vscode.EventEmitter<vscode.Uri>();

  const commands: Record<string, () => unknown> = {
    menu: () => showMenu(running),
    restart: () => running.restart(),
    install: () => running.install(),
    setInterpreter: () =>
      vscode.commands.executeCommand(
        "workbench.action.openSettings",
        "foretype.client.interpreter",
      ),
    showLog: () => running.log.show(),
    showRequests: () => {
      asked.fire(REQUESTS);
      return vscode.window.showTextDocument(REQUESTS);
    },
    dismiss: () => ghostText.dismiss(),
  };
  for (const id of ["toggle", "toggleLanguage", "toggleFile", "chooseModel"])
    commands[id] = () => takeEntry(running, id);

  const { properties } = context.extension.packageJSON.contributes.configuration;
  const atStart = Object.keys(properties).filter((name) => properties[name].scope === "machine");

  context.subscriptions.push(
    item,
    ghostText,
    vscode.workspace.registerTextDocumentContentProvider(REQUESTS.scheme, {
      onDidChange: asked.event,
      provideTextDocumentContent: async () =>
        (await running.ask<{ table: string }>("foretype/requests"))?.table ?? "No server runs.\n",
    }),
    ...Object.entries(commands).map(([name, run]) =>
      vscode.commands.registerCommand(`foretype.${name}`, run),
    ),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (atStart.some((name) => event.affectsConfiguration(name))) void running.restart();
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => running.restart()),
    vscode.window.onDidChangeActiveTextEditor((editor) => running.turnTo(editor?.document)),
  );
  void running.restart();
}

export const deactivate = (): Promise<void> | undefined => server?.dispose();

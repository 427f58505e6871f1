/** Foretype in VS Code: starts the server and puts its parts and commands together. */
import * as vscode from "vscode";
import { GhostText } from "./ghostText";
import { Server, serverSettings } from "./server";
import { StatusBar } from "./statusBar";
import { requestTable } from "./statusText";

const DOCUMENTS: vscode.DocumentFilter[] = ["file", "untitled", "vscode-notebook-cell"].map((scheme) => ({ scheme }));

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const muted = new Set<string>();
  const isMuted = (document: vscode.TextDocument): boolean => muted.has(document.uri.toString());
  const running = (server = new Server(context.globalStorageUri.fsPath, DOCUMENTS));
  const ghostText = new GhostText(context.extension.id, DOCUMENTS, () => running.client, isMuted);
  const statusBar = new StatusBar(running, isMuted);
  const requests = vscode.window.createOutputChannel("Foretype Requests");

  const configuration = () => vscode.workspace.getConfiguration("foretype");
  const set = (name: string, value: unknown): Thenable<void> =>
    configuration().update(name, value, vscode.ConfigurationTarget.Global);

  const commands: Record<string, () => unknown> = {
    menu: () => showMenu(isMuted),
    toggle: () => set("enabled", !configuration().get("enabled")),
    toggleLanguage: () => {
      const language = vscode.window.activeTextEditor?.document.languageId;
      const languages = configuration().get<Record<string, boolean>>("languages", {});
      return language && set("languages", { ...languages, [language]: languages[language] === false });
    },
    toggleFile: () => {
      const uri = vscode.window.activeTextEditor?.document.uri.toString();
      if (uri && !muted.delete(uri)) muted.add(uri);
      statusBar.refresh();
      return vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
    },
    chooseModel: () => chooseModel(set),
    restart: () => running.restart(),
    install: () => running.install(),
    setInterpreter: () => vscode.commands.executeCommand("workbench.action.openSettings", "foretype.client.interpreter"),
    showLog: () => running.log.show(),
    showRequests: async () => {
      requests.replace(requestTable(await running.lastRequests()));
      requests.show();
    },
    dismiss: () => {
      ghostText.stop();
      return vscode.commands.executeCommand("editor.action.inlineSuggest.hide");
    },
  };

  context.subscriptions.push(
    ghostText, statusBar, requests,
    ...Object.entries(commands).map(([name, run]) => vscode.commands.registerCommand(`foretype.${name}`, run)),
    vscode.workspace.onDidChangeConfiguration((event) => onSettings(event, running, context.extension.packageJSON)),
    vscode.workspace.onDidGrantWorkspaceTrust(() => running.client ?? running.restart()),
    vscode.workspace.onDidCloseTextDocument((document) => muted.delete(document.uri.toString())),
  );
  void running.restart();
}

export const deactivate = (): Promise<void> | undefined => server?.dispose();

/** Hand changed settings to the server, or start it anew if they choose what runs. */
function onSettings(event: vscode.ConfigurationChangeEvent, server: Server, manifest: any): void {
  if (!event.affectsConfiguration("foretype")) return;
  const settings: Record<string, { scope?: string }> = manifest.contributes.configuration.properties;
  const isAtStart = (name: string): boolean => settings[name]?.scope === "machine" && event.affectsConfiguration(name);
  if (Object.keys(settings).some(isAtStart)) void server.restart();
  else void server.client?.sendNotification("workspace/didChangeConfiguration", { settings: { foretype: serverSettings() } });
}

async function showMenu(isMuted: (document: vscode.TextDocument) => boolean): Promise<void> {
  const { enabled = true, languages = {} } = serverSettings() as { enabled?: boolean; languages?: Record<string, boolean> };
  const document = vscode.window.activeTextEditor?.document;
  const toggle = (isOn: boolean, what: string): string => `$(${isOn ? "circle-slash" : "wand"}) Turn ${isOn ? "Off" : "On"} ${what}`;
  const entries: [label: string, command: string][] = [
    ...(document ? [
      [toggle(!isMuted(document), "for This File"), "foretype.toggleFile"],
      [toggle(languages[document.languageId] !== false, `for ${document.languageId}`), "foretype.toggleLanguage"],
    ] as [string, string][] : []),
    [toggle(enabled, "Everywhere"), "foretype.toggle"],
    ["$(package) Choose a Model…", "foretype.chooseModel"],
    ["$(debug-restart) Restart the Server", "foretype.restart"],
    ["$(list-ordered) Show the Last Requests", "foretype.showRequests"],
    ["$(output) Show the Log", "foretype.showLog"],
  ];
  const choice = await vscode.window.showQuickPick(entries.map(([label, command]) => ({ label, command })), { title: "Foretype" });
  if (choice) await vscode.commands.executeCommand(choice.command);
}

async function chooseModel(set: (name: string, value: unknown) => Thenable<void>): Promise<void> {
  const [embedded, folder, name] = ["The embedded model", "A bundle folder…", "An exported model by its name…"];
  const choice = await vscode.window.showQuickPick([embedded, folder, name], { title: "Foretype: model" });
  if (choice === embedded) await set("model", "");
  if (choice === folder) {
    const [picked] = (await vscode.window.showOpenDialog({ canSelectFolders: true, canSelectFiles: false })) ?? [];
    if (picked) await set("model", picked.fsPath);
  }
  if (choice === name) {
    const typed = await vscode.window.showInputBox({ prompt: "Name of a model made by python -m export" });
    if (typed) await set("model", typed);
  }
}

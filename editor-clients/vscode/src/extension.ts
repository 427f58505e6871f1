/** Foretype in VS Code: puts the server, its ghost text, its status and the commands together. */
import * as vscode from "vscode";
import { GhostText } from "./ghostText";
import { Server, serverSettings } from "./server";
import { StatusBar } from "./statusBar";

const REQUESTS = vscode.Uri.parse("foretype:Last Requests.txt");
const SCHEMES = ["file", "untitled", "vscode-notebook-cell"];

type IsMuted = (document: vscode.TextDocument) => boolean;

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const muted = new Set<string>();
  const isMuted: IsMuted = (document) => muted.has(document.uri.toString());
  const documents = SCHEMES.map((scheme) => ({ scheme }));
  const running = (server = new Server(context.globalStorageUri.fsPath, documents));
  const ghostText = new GhostText(context.extension.id, documents, () => running.client, isMuted);
  const statusBar = new StatusBar(running, isMuted);
  const asked = new vscode.EventEmitter<vscode.Uri>();

  const commands: Record<string, () => unknown> = {
    menu: () => showMenu(isMuted),
    toggle: () => set("enabled", serverSettings().enabled === false),
    toggleLanguage: () => {
      const language = vscode.window.activeTextEditor?.document.languageId;
      const languages = serverSettings().languages as Record<string, boolean>;
      if (language)
        void set("languages", { ...languages, [language]: languages[language] === false });
    },
    toggleFile: () => {
      const uri = vscode.window.activeTextEditor?.document.uri.toString();
      if (uri && !muted.delete(uri)) muted.add(uri);
      statusBar.refresh();
      ghostText.dismiss();
    },
    chooseModel,
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

  context.subscriptions.push(
    ghostText,
    statusBar,
    vscode.workspace.registerTextDocumentContentProvider(REQUESTS.scheme, {
      onDidChange: asked.event,
      provideTextDocumentContent: () => running.lastRequests(),
    }),
    ...Object.entries(commands).map(([name, run]) =>
      vscode.commands.registerCommand(`foretype.${name}`, run),
    ),
    vscode.workspace.onDidChangeConfiguration((event) =>
      running.settingsChanged(event, context.extension.packageJSON.contributes.configuration),
    ),
    vscode.workspace.onDidGrantWorkspaceTrust(() => running.restart()),
    vscode.workspace.onDidCloseTextDocument(({ uri }) => muted.delete(uri.toString())),
  );
  void running.restart();
}

export const deactivate = (): Promise<void> | undefined => server?.dispose();

const set = (name: string, value: unknown): Thenable<void> =>
  vscode.workspace
    .getConfiguration("foretype")
    .update(name, value, vscode.ConfigurationTarget.Global);

async function showMenu(isMuted: IsMuted): Promise<void> {
  const settings = serverSettings();
  const languages = settings.languages as Record<string, boolean>;
  const document = vscode.window.activeTextEditor?.document;
  const toggle = (isOn: boolean, what: string): string =>
    isOn ? `$(circle-slash) Turn Off ${what}` : `$(wand) Turn On ${what}`;
  const entries = {
    ...(document && {
      [toggle(!isMuted(document), "for This File")]: "toggleFile",
      [toggle(languages[document.languageId] !== false, `for ${document.languageId}`)]:
        "toggleLanguage",
    }),
    [toggle(settings.enabled !== false, "Everywhere")]: "toggle",
    "$(package) Choose a Model…": "chooseModel",
    "$(debug-restart) Restart the Server": "restart",
    "$(list-ordered) Show the Last Requests": "showRequests",
    "$(output) Show the Log": "showLog",
  };
  const choice = await vscode.window.showQuickPick(Object.keys(entries), { title: "Foretype" });
  if (choice)
    await vscode.commands.executeCommand(`foretype.${entries[choice as keyof typeof entries]}`);
}

async function chooseModel(): Promise<void> {
  const model = await vscode.window.showInputBox({
    title: "Foretype: Choose a Model",
    prompt: "Bundle folder or the name of an exported model; empty: the embedded model.",
    value: String(serverSettings().model),
  });
  if (model !== undefined) await set("model", model);
}

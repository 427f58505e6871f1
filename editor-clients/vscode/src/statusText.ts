/** What the server says of itself, in words for a status bar. Knows no editor. */

/** `foretype/status` of docs/protocol.md, as far as it is shown. */
export interface Status {
  state: "loading" | "ready" | "busy" | "off" | "inactive" | "error";
  message?: string;
  engine?: string;
  model?: string;
  backend?: string;
  provider?: string;
  device?: string;
  dtype?: string;
  skipped?: string[];
  counters?: Record<string, number>;
  lastRequest?: LastRequest | null;
}

/** One row of `foretype/requests`. */
export interface LastRequest {
  uri?: string;
  source?: string;
  reason?: string;
  promptTokens?: number;
  reusedTokens?: number;
  newTokens?: number;
  prefillMs?: number;
  decodeMs?: number;
  totalMs?: number;
  finishReason?: string | null;
  shownChars?: number;
}

const ICONS: Record<Status["state"], string> = {
  loading: "loading~spin",
  ready: "wand",
  busy: "loading~spin",
  off: "circle-slash",
  inactive: "dash",
  error: "error",
};

/** One short line: the device and model while completions come, the name and state otherwise. */
export function statusLine(status: Status, percentage?: number): string {
  const icon = `$(${ICONS[status.state]})`;
  if (status.state === "loading")
    return `${icon} Foretype` + (percentage === undefined ? "" : ` ${Math.round(percentage)}%`);
  if (status.state !== "ready" && status.state !== "busy") return `${icon} Foretype`;
  const what = [status.model || status.engine || "Foretype", status.device].filter(Boolean);
  return `${icon} ${what.join(" · ")}`;
}

const outcome = ({ reason, shownChars = 0, source }: LastRequest): string =>
  reason || `${shownChars} characters from ${source}`;

/** All that is known, a fact a line. */
export function statusDetails(status: Status): string {
  const { counters = {}, lastRequest: last } = status;
  const runs = [status.backend, status.provider, status.dtype].filter(Boolean).join(", ");
  return [
    `Foretype: ${status.state}${status.message ? `: ${status.message}` : ""}`,
    status.model && `Model: ${status.model}${runs && ` (${runs})`}`,
    ...(status.skipped ?? []).map((reason) => `Skipped: ${reason}`),
    last && `Last request: ${last.totalMs ?? 0} ms, ${outcome(last)}`,
    Object.entries(counters)
      .map(([name, n]) => `${n} ${name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`)}`)
      .join(", "),
  ]
    .filter(Boolean)
    .join("\n");
}

const COLUMNS: [title: string, cell: (request: LastRequest) => unknown][] = [
  ["total ms", (r) => r.totalMs],
  ["source", (r) => r.source],
  ["chars", (r) => r.shownChars],
  ["end, or why nothing", (r) => r.reason || r.finishReason],
  ["file", (r) => r.uri?.split("/").pop()],
  ["prompt", (r) => r.promptTokens],
  ["reused", (r) => r.reusedTokens],
  ["new", (r) => r.newTokens],
  ["prefill ms", (r) => r.prefillMs],
  ["decode ms", (r) => r.decodeMs],
];

/** The last requests as a table of text, newest first. */
export function requestTable(requests: LastRequest[]): string {
  const rows = [...requests]
    .reverse()
    .map((request) => COLUMNS.map(([, cell]) => String(cell(request) ?? "")));
  const table = [COLUMNS.map(([title]) => title), ...rows];
  const widths = COLUMNS.map((_, i) => Math.max(...table.map((row) => row[i]!.length)));
  return (
    table
      .map((row) =>
        row
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd(),
      )
      .join("\n") + "\n"
  );
}

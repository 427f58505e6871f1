import assert from "node:assert/strict";
import { test } from "node:test";
import { requestTable, Status, statusDetails, statusLine } from "../src/statusText";

const READY: Status = {
  state: "ready",
  engine: "local",
  model: "foretype-v0",
  backend: "ort",
  provider: "CPUExecutionProvider",
  device: "cpu",
  dtype: "int8",
  skipped: ["ort on cuda: no CUDA provider"],
  counters: { requests: 12, partiallyAccepted: 4 },
  lastRequest: { source: "model", reason: "", totalMs: 14.2, shownChars: 31 },
};

test("loading shows its percentage once it is known", () => {
  assert.equal(statusLine({ state: "loading" }), "$(loading~spin) Foretype");
  assert.equal(statusLine({ state: "loading" }, 41.6), "$(loading~spin) Foretype 42%");
});

test("ready and busy show model and device, and keep their width", () => {
  assert.equal(statusLine(READY), "$(wand) foretype-v0 · cpu");
  assert.equal(statusLine({ ...READY, state: "busy" }), "$(loading~spin) foretype-v0 · cpu");
});

test("an engine without a model is shown by its name", () =>
  assert.equal(statusLine({ state: "ready", engine: "scripted" }), "$(wand) scripted"));

test("off, inactive and error keep the line short and give the reason in the details", () => {
  for (const state of ["off", "inactive", "error"] as const) {
    assert.match(statusLine({ state, message: "why" }), /^\$\([a-z-]+\) Foretype$/);
    assert.match(statusDetails({ state, message: "why" }), new RegExp(`^Foretype: ${state}: why$`));
  }
});

test("the details say what runs, what was skipped and what the last request did", () =>
  assert.deepEqual(statusDetails(READY).split("\n"), [
    "Foretype: ready",
    "Model: foretype-v0 (ort, CPUExecutionProvider, int8)",
    "Skipped: ort on cuda: no CUDA provider",
    "Last request: 14.2 ms, 31 characters from model",
    "12 requests, 4 partially accepted",
  ]));

test("a request that offered nothing is told by its reason", () =>
  assert.match(
    statusDetails({ state: "ready", lastRequest: { reason: "denied path", totalMs: 0.1 } }),
    /0\.1 ms, denied path/,
  ));

test("the table is newest first, aligned, and a request without figures leaves its cells empty", () => {
  const table = requestTable([
    { uri: "file:///x/a.py", totalMs: 5, source: "model", finishReason: "stop" },
    { uri: "file:///x/b.py", reason: "denied path" },
  ]).split("\n");
  assert.match(table[0]!, /^total ms  source/);
  assert.match(table[1]!, /denied path +b\.py$/);
  assert.match(table[2]!, /^5 +model +stop +a\.py$/);
  assert.equal(table[1]!.indexOf("b.py"), table[2]!.indexOf("a.py"));
});

test("no requests: only the titles", () => assert.equal(requestTable([]).split("\n").length, 2));

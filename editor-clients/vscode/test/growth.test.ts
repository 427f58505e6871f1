import assert from "node:assert/strict";
import { test } from "node:test";
import { goesAlong, itemAfterTyping } from "../src/growth";

const check = (completion: string, typed: string, expected: unknown, column = 4): void =>
  assert.deepEqual(itemAfterTyping(completion, typed, column), expected);

test("nothing typed yet: the whole text from where it was asked for", () =>
  check("add(a, b)", "", { column: 4, text: "add(a, b)" }));

test("typing along keeps the start, so that VS Code sees the same item", () =>
  check("add(a, b)", "add(", { column: 4, text: "add(a, b)" }));

test("on a later line the item starts at that line", () =>
  check("add():\n    return 1\n", "add():\n    re", { column: 0, text: "    return 1\n" }));

test("right behind a line end the item is the next line", () =>
  check("a\nb", "a\n", { column: 0, text: "b" }));

test("typed to the end: nothing is left", () => check("add", "add", undefined));

test("something else was typed", () => check("add", "sub", undefined));

test("a document with CRLF takes text with LF", () =>
  check("a\nbc", "a\r\nb", { column: 0, text: "bc" }));

test("text with CRLF goes into a document with LF", () =>
  check("a\r\nbc", "a\nb", { column: 0, text: "bc" }));

test("characters outside the basic plane are never halved", () =>
  check("🎉🎈!", "🎉", { column: 4, text: "🎉🎈!" }));

test("typing may catch up with a text that still grows", () => {
  assert.ok(goesAlong("add", "add"));
  assert.ok(goesAlong("a\nb", "a\r\n"));
  assert.ok(!goesAlong("add", "addx"));
});

/** How a completion that is still growing meets the text that is being typed. Knows no editor. */

/** Text with the line ends of the protocol's inside: LF only. */
export const withLf = (text: string): string => text.replace(/\r\n?/g, "\n");

/** What VS Code is given: text whose range starts at `column` of the line that holds the cursor. */
export interface CursorLineItem {
  column: number;
  text: string;
}

/**
 * Rewrite a completion for a cursor that stands behind `typed`, or return undefined if they differ
 * or nothing is left. VS Code wants a range on one line, so lines already typed are left out.
 *
 * @param completion the whole text so far, from where it was asked for.
 * @param typed what stands in the document between there and the cursor.
 * @param column where the completion was asked for, in UTF-16 units.
 */
export function itemAfterTyping(
  completion: string,
  typed: string,
  column: number,
): CursorLineItem | undefined {
  const [whole, done] = [withLf(completion), withLf(typed)];
  if (!whole.startsWith(done) || whole.length === done.length) return undefined;
  const lineStart = done.lastIndexOf("\n") + 1;
  return { column: lineStart === 0 ? column : 0, text: whole.slice(lineStart) };
}

/** Whether `typed` leads nowhere else than the completion does, or may once it has grown. */
export const goesAlong = (completion: string, typed: string): boolean =>
  withLf(completion).startsWith(withLf(typed));

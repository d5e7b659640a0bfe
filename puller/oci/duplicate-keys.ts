// Finds a key that stands twice in one object of a JSON document. JSON.parse takes the last one and other readers the first: a
// document must not be two. Pure.

/** A string, or one character that shapes the document; everything between is skipped. */
const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]/gs;

/** The first key that its object has twice; undefined when none has. `text` is known to be valid JSON. */
export function duplicateKey(text: string): string | undefined {
  /** Keys of each object around the place that is read; undefined for arrays. */
  const open: (Set<string> | undefined)[] = [];
  let previous = "";
  let last = "";
  for (const [found] of text.matchAll(token)) {
    if (found === "{") open.push(new Set());
    else if (found === "[") open.push(undefined);
    else if (found === "}" || found === "]") open.pop();
    else if (found === ":" && last.startsWith('"') && (previous === "{" || previous === ",")) {
      const keys = open.at(-1);
      // Two spellings of one key (escapes) are the same key.
      const key = JSON.parse(last) as string;
      if (keys?.has(key) === true) return key;
      keys?.add(key);
    }
    previous = last;
    last = found;
  }
  return undefined;
}

// Finds a key that stands twice in one object of a JSON document. JSON.parse takes the last one and other readers the first: a
// document must not be two. Pure.

const [quotation, backslash] = [0x22, 0x5c];
const shaping: ReadonlySet<string> = new Set("{}[],:");

/** The first key that its object has twice; undefined when none has. `text` is known to be valid JSON. */
export function duplicateKey(text: string): string | undefined {
  /** Keys of each object around the place that is read; undefined for arrays. */
  const open: (Set<string> | undefined)[] = [];
  let previous = "";
  let last = "";
  /** Where the last string stands, when `last` is one. */
  let string: readonly [start: number, end: number] = [0, 0];
  for (let at = 0; at < text.length; at += 1) {
    const found = text.charAt(at);
    if (found === '"') {
      const end = endOfString(text, at);
      string = [at, end];
      at = end - 1;
    } else if (!shaping.has(found)) continue;
    else if (found === "{") open.push(new Set());
    else if (found === "[") open.push(undefined);
    else if (found === "}" || found === "]") open.pop();
    else if (found === ":" && last === '"' && (previous === "{" || previous === ",")) {
      const keys = open.at(-1);
      // Two spellings of one key (escapes) are the same key.
      const key = JSON.parse(text.slice(...string)) as string;
      if (keys?.has(key) === true) return key;
      keys?.add(key);
    }
    previous = last;
    last = found;
  }
  return undefined;
}

/** Behind the quotation mark that ends a string. Not by a regular expression: on a string of 20 MB those run out of stack. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === quotation) return at + 1;
    if (code === backslash) at += 1;
  }
  return text.length;
}

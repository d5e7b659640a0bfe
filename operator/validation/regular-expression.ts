// Regular expressions of Kubernetes (RE2) as those of JavaScript. What would mean something else there is refused, never guessed. Pure.
// https://github.com/google/re2/wiki/Syntax

const posixClasses: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  blank: "\\t ",
  digit: "0-9",
  lower: "a-z",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};
/** Fewer than JavaScript's: neither the vertical tab nor what Unicode calls white space. */
const space = "\\t\\n\\f\\r ";

/** The same expression for JavaScript; throws for what has no equal. */
export function fromRe2(pattern: string): RegExp {
  const refuse = (what: string): never => {
    throw new Error(`regular expression ${JSON.stringify(pattern)}: ${what} has no equal in JavaScript`);
  };
  const escape = (next: string, isInClass: boolean): string => {
    if (next === "s") return isInClass ? space : `[${space}]`;
    if (next === "S" && !isInClass) return `[^${space}]`;
    if (/[dDwWtnfrv]/.test(next) || (!isInClass && /[bB]/.test(next))) return `\\${next}`;
    if (next === "" || /[A-Za-z0-9]/.test(next)) return refuse(`\\${next}`);
    return /[\^$\\.*+?()[\]{}|/]/.test(next) || (isInClass && next === "-") ? `\\${next}` : next;
  };
  let out = "";
  let classBegin: number | undefined;
  for (let at = 0; at < pattern.length; at += 1) {
    const one = pattern.charAt(at);
    const rest = pattern.slice(at);
    if (one === "\\") {
      at += 1;
      out += escape(pattern.charAt(at), classBegin !== undefined);
    } else if (classBegin === undefined) {
      const group = /^\(\?(?!:)[^)]*/.exec(rest);
      if (group !== null) refuse(group[0]);
      if (one === "[") {
        const [opening = "["] = /^\[\^?/.exec(rest) ?? [];
        at += opening.length - 1;
        classBegin = at + 1;
        out += opening;
      } else out += one === "." ? "[^\\n]" : one;
    } else {
      const [whole = "", name = ""] = /^\[:(\^?\w+):\]/.exec(rest) ?? [];
      if (whole !== "") {
        out += posixClasses[name] ?? refuse(whole);
        at += whole.length - 1;
      } else if (one === "]" && at !== classBegin) {
        classBegin = undefined;
        out += one;
      } else out += one === "]" || one === "[" ? `\\${one}` : one;
    }
  }
  return new RegExp(out, "u");
}

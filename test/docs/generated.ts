// Parts of pages that are written from the code: `<!-- from NAME -->` … `<!-- end -->`. `npm run golden` writes them. For tests.

import { format } from "prettier";
import { readPage } from "./markdown.ts";

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Names of the generated parts of a page. */
export function partsOf(file: string): readonly string[] {
  return [...readPage(file).matchAll(/^<!-- from (.+) -->$/gm)].map(([, name = ""]) => name);
}

/** The page as it should be: each part as given, everything else as it is. */
export async function withParts(file: string, parts: Readonly<Record<string, string>>): Promise<string> {
  const text = readPage(file).replaceAll(
    /^<!-- from ([^\n]+) -->$.*?^<!-- end -->$/gms,
    (_whole, name: string) => `<!-- from ${name} -->\n\n${parts[name] ?? ""}\n\n<!-- end -->`,
  );
  return format(text, { parser: "markdown", printWidth: 110 });
}

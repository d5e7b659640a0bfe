// Reads the project's own Markdown: headings, links and fenced blocks, as far as these files use them. For tests.

import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");

/** Every page for people, relative to the root. */
export function pages(): readonly string[] {
  return ["README.md", "CHANGELOG.md", ...globSync("docs/**/*.md", { cwd: root })].sort();
}

export function readPage(file: string): string {
  return readFileSync(join(root, file), "utf8");
}

/** A fenced block. */
export type Block = {
  readonly file: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** What a `text` block right after it shows: what the commands print. */
  readonly output?: string;
};

/** The fenced blocks of a page, in order. */
export function blocksOf(file: string): readonly Block[] {
  const text = readPage(file);
  const blocks: { -readonly [Key in keyof Block]: Block[Key] }[] = [];
  let end = -1;
  for (const match of text.matchAll(/^```(\w*)\n(.*?)^```$/gms)) {
    const [whole, language = "", content = ""] = match;
    const previous = blocks.at(-1);
    const isOutput = language === "text" && text.slice(end, match.index).trim() === "";
    if (isOutput && previous?.language === "sh") previous.output = content;
    const line = text.slice(0, match.index).split("\n").length;
    blocks.push({ file, line, language, text: content });
    end = match.index + whole.length;
  }
  return blocks;
}

/** A page without its fenced blocks, line for line. */
function prose(file: string): string {
  return readPage(file).replaceAll(/^```\w*\n.*?^```$/gms, (block) => block.replaceAll(/[^\n]/g, ""));
}

/** Anchors of the headings, as GitHub makes them. */
export function anchorsOf(file: string): ReadonlySet<string> {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  for (const [, heading = ""] of prose(file).matchAll(/^#{1,6} (.+)$/gm)) {
    const anchor = heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    anchors.add(count === 0 ? anchor : `${anchor}-${count}`);
  }
  return anchors;
}

export type Link = { readonly file: string; readonly line: number; readonly target: string };

/** Inline links and images of a page. */
export function linksOf(file: string): readonly Link[] {
  return prose(file)
    .split("\n")
    .flatMap((text, index) =>
      [...text.matchAll(/\]\(([^()\s]+)\)/g)].map(([, target = ""]) => ({ file, line: index + 1, target })),
    );
}

/** Code in back quotes of a page, with its line. */
export function codeOf(file: string): readonly { readonly line: number; readonly code: string }[] {
  return prose(file)
    .split("\n")
    .flatMap((text, index) =>
      [...text.matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => ({ line: index + 1, code })),
    );
}

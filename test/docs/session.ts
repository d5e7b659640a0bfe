// Runs the commands of a page as one person would: block after block in one shell, each to be successful and to print what
// the page shows. For tests.

import { runCommand } from "../cluster/run-command.ts";
import type { Block } from "./markdown.ts";

/** What a block printed on stdout. */
export type Ran = { readonly block: Block; readonly stdout: string };

/** A character that no command prints. */
const mark = "\u2063";

/**
 * Runs the blocks in one bash. Rejects with place and output when a command fails; that a command should fail is said in
 * the page by `|| echo`.
 */
export async function runSession(
  blocks: readonly Block[],
  options: {
    readonly cwd: string;
    readonly env: Readonly<Record<string, string>>;
    readonly timeoutMs?: number;
  },
): Promise<readonly Ran[]> {
  const script = blocks.map(({ text }, index) => `printf '${mark}%s${mark}' ${index}\n${text}`).join("\n");
  const result = await runCommand("bash", ["-euo", "pipefail", "-c", script], {
    cwd: options.cwd,
    env: options.env,
    allowFailure: true,
    timeoutMs: options.timeoutMs ?? 120_000,
  });
  const ran = [...result.stdout.matchAll(/\u2063(\d+)\u2063([^\u2063]*)/gu)].flatMap(
    ([, index, stdout = ""]) => {
      const block = blocks[Number(index)];
      return block === undefined ? [] : [{ block, stdout }];
    },
  );
  if (result.exitCode !== 0) {
    const last = ran.at(-1);
    throw new Error(
      `${last?.block.file ?? ""}:${last?.block.line ?? 0} ended with ${result.exitCode}:\n${last?.block.text ?? ""}\n${last?.stdout ?? ""}\n${result.stderr.slice(-4000)}`,
    );
  }
  return ran;
}

/** Whether a text is what a page shows: `…` stands for anything in a line, a line of `…` alone for any lines. */
export function showsAs(shown: string, text: string): boolean {
  const lines = shown
    .trimEnd()
    .split("\n")
    .map((line) =>
      line.trim() === "…"
        ? "(?:.*\n)*"
        : `${line
            .trimEnd()
            .split("…")
            .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"))
            .join(".*")}[ \t]*\n`,
    );
  return new RegExp(`^${lines.join("")}$`).test(`${text.trimEnd()}\n`);
}

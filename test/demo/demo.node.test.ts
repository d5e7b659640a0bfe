import { join } from "node:path";
import { expect, test } from "vitest";
import { runCommand } from "../cluster/run-command.ts";
import { describeNode } from "../cluster/suites.ts";
import { sentences } from "./demo.ts";

describeNode("make demo", () => {
  test("serves the variant that fits the node, and ends", async () => {
    const { stdout } = await runCommand(process.execPath, [join(import.meta.dirname, "main.ts"), "--remove"]);
    expect(stdout).toContain(`llama.cpp answers: ${sentences.Q4_K_M.sentence}`);
    expect(stdout).toMatch(
      /f16-gpu +NoMatchingNode +needs 80\.0 GiB on one GPU; fits 0 of 1 nodes: 1 without such a GPU/,
    );
    expect(stdout).toMatch(/q8-large +TooLarge +needs 2\.0 TiB of RAM; best node node-a has/);
    expect(stdout).toMatch(/q4 +Selected/);
    console.log(
      stdout
        .split("\n")
        .filter((line) => / s\)?$/.test(line))
        .join("\n"),
    );
  }, 600_000);
});

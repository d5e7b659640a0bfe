// What the pages point at is there: files, headings, make targets, scripts, flags, examples.

import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { environmentName } from "../../puller/command-line.ts";
import { options } from "../../puller/command-options.ts";
import { operatorOptions } from "../../operator/command-line.ts";
import { anchorsOf, blocksOf, codeOf, linksOf, pages, readPage, root } from "./markdown.ts";
import { clusterPages, exceptions, notRun, pullerPages } from "./not-run.ts";

/** Text of all fences that hold commands, and of all code in lines. */
function commandsOf(page: string): readonly { readonly place: string; readonly code: string }[] {
  return [
    ...blocksOf(page)
      .filter(({ language }) => language === "sh")
      .map(({ line, text }) => ({ place: `${page}:${line}`, code: text })),
    ...codeOf(page).map(({ line, code }) => ({ place: `${page}:${line}`, code })),
  ];
}

describe("links of the pages", () => {
  test.each(pages())("%s: every relative link and its anchor is there", (page) => {
    const broken = linksOf(page)
      .filter(({ target }) => !/^[a-z]+:/.test(target))
      .filter(({ target }) => {
        const [path = "", anchor] = target.split("#");
        const file = path === "" ? page : relative(root, join(root, dirname(page), path));
        if (file.startsWith("..") || !existsSync(join(root, file))) return true;
        return anchor !== undefined && !(file.endsWith(".md") && anchorsOf(file).has(anchor));
      });
    expect(broken).toEqual([]);
  });

  test("every page and every example is reached from the README or a page", () => {
    const reached = new Set(
      pages().flatMap((page) =>
        linksOf(page).map(({ target }) => join(dirname(page), target.split("#")[0] ?? "")),
      ),
    );
    const files = globSync("docs/**/*.{md,yaml}", { cwd: root });
    expect(files.filter((file) => statSync(join(root, file)).isFile() && !reached.has(file))).toEqual([]);
  });

  test("every path of the source that is named in back quotes is there", () => {
    const named = pages().flatMap((page) =>
      codeOf(page)
        .filter(({ code }) => /^(?:operator|puller|test|charts|crds|docs|build)\/[\w./-]+$/.test(code))
        .filter(({ code }) => !code.startsWith("build/"))
        .map(({ line, code }) => ({ place: `${page}:${line}`, code })),
    );
    expect(named.length).toBeGreaterThan(8);
    // Architecture names files below operator/ by their short path in tables; those have no such prefix.
    expect(named.filter(({ code }) => !existsSync(join(root, code)))).toEqual([]);
  });
});

describe("commands that the pages name", () => {
  const makefile = readFileSync(join(root, "Makefile"), "utf8");
  const targets = new Set([...makefile.matchAll(/^([a-z-]+):/gm)].map(([, name = ""]) => name));
  const scripts = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: object })
    .scripts;

  test("every make target is one", () => {
    const named = pages().flatMap((page) =>
      commandsOf(page).flatMap(({ place, code }) =>
        [...code.matchAll(/(?:^|\n|&& )make ([a-z-]+)/g)].map(([, name = ""]) => ({ place, name })),
      ),
    );
    expect(named.length).toBeGreaterThan(2);
    expect(named.filter(({ name }) => !targets.has(name))).toEqual([]);
  });

  test("make help tells every target, with what it does", () => {
    const phony = /^\.PHONY: (.+)$/m.exec(makefile)?.[1]?.split(" ") ?? [];
    expect([...targets].sort()).toEqual([...phony].sort());
    expect(phony.filter((name) => !new RegExp(`^${name}:.*## \\w`, "m").test(makefile))).toEqual([]);
  });

  test("every npm script is one", () => {
    const named = pages().flatMap((page) =>
      commandsOf(page).flatMap(({ place, code }) =>
        [...code.matchAll(/npm run (?:-s |--silent )?([\w:-]+)/g)].map(([, name = ""]) => ({ place, name })),
      ),
    );
    expect(named.filter(({ name }) => !(name in scripts))).toEqual([]);
  });

  test("every flag and variable of the puller that is named in a line is one", () => {
    const flags = new Set(
      [...options, ...operatorOptions].map(({ name }) => `--${name}`).concat("--help", "--version"),
    );
    const variables = new Set(options.map(({ name }) => environmentName(name)));
    const wrong = ["docs/puller.md", "docs/formats.md", "docs/architecture.md"].flatMap((page) =>
      codeOf(page)
        .flatMap(({ line, code }) =>
          (code.match(/^--[a-z-]+|OCIMODEL_[A-Z_]+/g) ?? []).map((word) => ({
            place: `${page}:${line}`,
            word,
          })),
        )
        .filter(({ word }) => !flags.has(word) && !variables.has(word)),
    );
    expect(wrong).toEqual([]);
  });

  test("every block of commands is run by a suite, or is an exception with a reason", () => {
    const run = new Set([...pullerPages, ...clusterPages]);
    const idle = pages()
      .flatMap(blocksOf)
      .filter(({ language }) => language === "sh")
      .filter((block) => !run.has(block.file) && notRun(block) === undefined)
      .map(({ file, line }) => `${file}:${line}`);
    expect(idle).toEqual([]);
  });

  test("every exception is still in a page, and says why", () => {
    const stale = exceptions.filter(
      ({ file, start }) =>
        !blocksOf(file).some(({ language, text }) => language === "sh" && text.startsWith(start)),
    );
    expect(stale).toEqual([]);
    expect(exceptions.filter(({ reason }) => reason.split(" ").length < 4)).toEqual([]);
  });

  test("no page is left in a hurry", () => {
    for (const page of pages()) expect(readPage(page)).not.toMatch(/\b(?:TODO|FIXME|TBD|XXX)\b/);
  });
});

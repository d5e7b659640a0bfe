import { describe, expect, test } from "vitest";
import { helpText, operatorOptions, parseCommandLine } from "../../operator/command-line.ts";

describe("the operator's command line", () => {
  test("has defaults for all but the configuration", () => {
    expect(parseCommandLine(["--config=c.yaml"])).toEqual({
      kind: "run",
      config: "c.yaml",
      healthAddress: "0.0.0.0:8081",
      metricsAddress: "0.0.0.0:8080",
      leaderElectionNamespace: undefined,
      logLevel: "info",
    });
  });

  test("takes values after = or as the next argument", () => {
    expect(
      parseCommandLine(["--config", "c", "--log-level=debug", "--leader-election-namespace", "ns"]),
    ).toMatchObject({ config: "c", logLevel: "debug", leaderElectionNamespace: "ns" });
  });

  test.each([
    [["--help", "--config"], "--config needs a value: FILE; see --help"],
    [["--help"], { kind: "help" }],
    [["--version"], { kind: "version" }],
    [[], "--config is missing; see --help"],
    [["--config="], "--config needs a value: FILE; see --help"],
    [["--conf=c"], "unknown flag --conf; see --help"],
    [["-c", "c"], "unknown flag -c; see --help"],
    [["run"], '"run" is not expected; see --help'],
    [["--config=a", "--config=b"], "--config was given twice; see --help"],
    [["--version=2"], "--version takes no value; see --help"],
    [
      ["--config=a", "--log-level=loud"],
      '--log-level "loud" is none of debug, info, warn, error; see --help',
    ],
  ] as const)("%j", (args, expected) => {
    const parse = (): unknown => parseCommandLine(args);
    if (typeof expected === "string") expect(parse).toThrow(new Error(expected));
    else expect(parse()).toEqual(expected);
  });

  test("help names every flag and fits a terminal", () => {
    const text = helpText();
    for (const { name } of operatorOptions) expect(text).toContain(`  --${name}`);
    expect(text.split("\n").filter((line) => line.length > 125)).toEqual([]);
  });
});

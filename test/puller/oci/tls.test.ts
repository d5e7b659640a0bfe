// Whom a registry by TLS is believed to be: private authorities, wrong names, no fallback to plain http.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findProgram } from "../../cluster/packages.ts";
import { describeUnless } from "../../cluster/suites.ts";
import { startScriptedRegistry, type ScriptedRegistry } from "../../registry/scripted-registry.ts";
import { makeServerCertificate } from "../../registry/test-certificates.ts";
import { serveManifest } from "../bad-input.ts";
import { runInProcess } from "../run-in-process.ts";

describeUnless(findProgram("openssl") === undefined ? "openssl is missing" : undefined, "TLS", () => {
  let directory = "";
  let count = 0;
  let right: ScriptedRegistry;
  let wrongName: ScriptedRegistry;
  let plain: ScriptedRegistry;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "ocimodel-tls-"));
    const other = mkdtempSync(join(directory, "other-"));
    right = await startScriptedRegistry(await makeServerCertificate(directory, "127.0.0.1"));
    wrongName = await startScriptedRegistry(await makeServerCertificate(other, "127.0.0.9"));
    plain = await startScriptedRegistry();
    const [ca, otherCa] = [directory, other].map((each) => readFileSync(join(each, "ca.crt"), "utf8"));
    writeFileSync(join(directory, "both.pem"), `# two authorities\r\n${otherCa ?? ""}\n\n${ca ?? ""}`);
    writeFileSync(join(directory, "damaged.pem"), `${ca ?? ""}${(otherCa ?? "").replace("MII", "AAA")}`);
    writeFileSync(join(directory, "other.pem"), otherCa ?? "");
  });
  afterAll(async () => {
    for (const each of [right, wrongName, plain]) await each?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test.each([
    ["trusted by its own authority", "right", ["ca.crt"], 0, "Ready", "is complete"],
    ["trusted by one of a file", "right", ["both.pem"], 0, "Ready", "is complete"],
    ["trusted by one of two files", "right", ["other.pem", "ca.crt"], 0, "Ready", "is complete"],
    ["of another authority", "right", ["other.pem"], 78, "TLSUntrusted", "give its authority with --ca-file"],
    ["of no known authority", "right", [], 78, "TLSUntrusted", "give its authority with --ca-file"],
    ["of another name", "wrongName", ["both.pem"], 78, "TLSUntrusted", "ERR_TLS_CERT_ALTNAME_INVALID"],
    [
      "with a damaged authority",
      "right",
      ["damaged.pem"],
      78,
      "InvalidConfiguration",
      "damaged.pem: certificate 2 of 2 is damaged",
    ],
    ["without TLS", "plain", [], 78, "TLSUntrusted", "name it with --plain-http 127.0.0.1"],
  ] as const)("a registry %s", async (_name, which, authorities, exitCode, code, says) => {
    const registry = { right, wrongName, plain }[which];
    registry.setScript(serveManifest());
    const run = await runInProcess([
      "pull",
      `--reference=${registry.host}/ai/model:x`,
      `--store=${join(directory, `store-${(count += 1)}`)}`,
      "--retry-budget=0",
      ...authorities.map((file) => `--ca-file=${join(directory, file)}`),
    ]);
    expect(run).toMatchObject({ exitCode, termination: { code, message: expect.stringContaining(says) } });
    // Not a byte of HTTP goes to whom we do not know.
    if (exitCode !== 0) expect(registry.requests).toEqual([]);
  });
});

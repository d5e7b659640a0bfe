import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureKubernetesTools } from "../../cluster/binary.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { inputOf } from "../selection/golden-cases.ts";

const root = join(import.meta.dirname, "../../..");

/** The script of the documentation, for this checkout. */
function documentedPlugin(): string {
  const [, script = ""] =
    /```sh\n(#!\/bin\/sh\n[^`]*)```/.exec(readFileSync(join(root, "docs/selection.md"), "utf8")) ?? [];
  return script.replaceAll("/path/to/ocimodel", root);
}

describeCluster("ocimodel plan as a plugin of kubectl, by a user who may list nodes alone", () => {
  let plane: ControlPlane;
  let kubectl = "";
  let environment: NodeJS.ProcessEnv = {};
  beforeAll(async () => {
    plane = await startControlPlane({ controllers: false, scheduler: false });
    ({ kubectl } = await ensureKubernetesTools());
    const node = { apiVersion: "v1", kind: "Node", metadata: { name: "a" } };
    await plane.kubectl(["create", "-f", "-"], { input: JSON.stringify(node) });
    const capacity = {
      status: { allocatable: { cpu: "8", memory: "64Gi", pods: "110", "ephemeral-storage": "100Gi" } },
    };
    await plane.kubectl(["patch", "node", "a", "--subresource=status", "-p", JSON.stringify(capacity)]);
    await plane.kubectl(["taint", "nodes", "--all", "node.kubernetes.io/not-ready-"], { allowFailure: true });
    await plane.kubectl(["create", "namespace", "team"]);
    await plane.kubectl(["create", "serviceaccount", "reader", "-n", "team"]);
    await plane.kubectl(["create", "clusterrole", "nodes", "--verb=list", "--resource=nodes"]);
    await plane.kubectl([
      "create",
      "clusterrolebinding",
      "n",
      "--clusterrole=nodes",
      "--serviceaccount=team:reader",
    ]);
    const token = (await plane.kubectl(["create", "token", "reader", "-n", "team"])).stdout.trim();
    const plugins = join(plane.directory, "plugins");
    mkdirSync(plugins);
    writeFileSync(join(plugins, "kubectl-ocimodel"), documentedPlugin());
    chmodSync(join(plugins, "kubectl-ocimodel"), 0o755);
    environment = {
      PATH: `${plugins}:${dirname(kubectl)}:${process.env["PATH"]}`,
      KUBECONFIG: plane.kubeconfigFor({ token }),
    };
  });
  afterAll(async () => {
    await plane?.stop();
  });

  test("chooses, and says what is not counted", () => {
    const files = { model: join(plane.directory, "model.json"), facts: join(plane.directory, "facts.json") };
    const spec = { source: { reference: "registry.example/llm:8b-q4" } };
    writeFileSync(
      files.model,
      JSON.stringify({ apiVersion: "ocimodel.dev/v1alpha1", kind: "Model", metadata: { name: "llm" }, spec }),
    );
    writeFileSync(files.facts, JSON.stringify([...inputOf({ nodes: [] }).facts.values()]));
    const run = spawnSync(
      kubectl,
      ["ocimodel", "plan", "-f", files.model, "--facts", files.facts, "-o", "json"],
      { encoding: "utf8", env: environment },
    );
    expect(
      run.stderr
        .split("\n")
        .filter((line) => line !== "")
        .toSorted(),
    ).toEqual([
      "ocimodel: persistentvolumeclaims cannot be listed (forbidden): what volumes say of nodes is left out",
      "ocimodel: persistentvolumes cannot be listed (forbidden): what volumes say of nodes is left out",
      "ocimodel: pods cannot be listed (forbidden): what other pods take is not counted",
      "ocimodel: resourceclaims cannot be listed (forbidden): devices of DRA drivers count as free",
      "ocimodel: resourceslices cannot be listed (forbidden): devices of DRA drivers are left out",
      "ocimodel: storageclasses cannot be listed (forbidden): what volumes say of nodes is left out",
    ]);
    expect(run.status).toBe(0);
    expect(JSON.parse(run.stdout)).toMatchObject([
      { model: "llm", nodes: 1, isPlaced: true, reason: "Selected" },
    ]);
    const asked = spawnSync(
      kubectl,
      ["ocimodel", "plan", "-f", files.model, "--facts", files.facts, "--require-capacity"],
      { encoding: "utf8", env: environment },
    );
    expect(asked.stderr).toContain("--require-capacity cannot be answered, since no pods are told");
    expect(asked.status).toBe(64);
  });
});

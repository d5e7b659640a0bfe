import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureKubernetesTools } from "../../cluster/binary.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { describeCluster } from "../../cluster/suites.ts";
import { inputOf } from "../selection/golden-cases.ts";

const root = join(import.meta.dirname, "../../..");

const claiming = {
  apiVersion: "ocimodel.dev/v1alpha1",
  kind: "Model",
  metadata: { name: "llm" },
  spec: {
    source: { reference: "registry.example/llm:8b-q4" },
    storage: { type: "PersistentVolumeClaim", claimName: "disk" },
  },
};

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
    const said = (stderr: string): readonly string[] =>
      stderr
        .split("\n")
        .filter((line) => line !== "")
        .toSorted();
    const always = [
      "ocimodel: resourceslices cannot be listed (forbidden): devices of DRA drivers are left out",
      "ocimodel: resourceclaims cannot be listed (forbidden): devices of DRA drivers count as free",
      "ocimodel: pods cannot be listed (forbidden): what other pods take is not counted",
      "ocimodel: limitranges, priorityclasses cannot be listed (forbidden): what they add to pods is not told",
    ];
    // Nothing of volumes, which the Model does not ask for.
    expect(said(run.stderr)).toEqual(always.toSorted());
    expect(run.status).toBe(0);
    expect(JSON.parse(run.stdout)).toMatchObject([
      { model: "llm", nodes: 1, isPlaced: true, reason: "Selected" },
    ]);
    const onClaim = spawnSync(kubectl, ["ocimodel", "plan", "-f", "-", "--facts", files.facts], {
      encoding: "utf8",
      env: environment,
      input: JSON.stringify(claiming),
    });
    expect(said(onClaim.stderr).filter((line) => !always.includes(line))).toEqual([
      "ocimodel: persistentvolumeclaims, persistentvolumes, storageclasses cannot be listed (forbidden): what volumes say is left out",
    ]);
    expect(onClaim.stdout).toContain('whether claim "disk" is there is not known');
    const asked = spawnSync(
      kubectl,
      ["ocimodel", "plan", "-f", files.model, "--facts", files.facts, "--require-capacity"],
      { encoding: "utf8", env: environment },
    );
    expect(asked.stderr).toContain("--require-capacity cannot be answered, since no pods are told");
    expect(asked.status).toBe(64);
  });

  test("asks a cluster that shows all for claims of the Model's namespace, and for what changes pods there", async () => {
    const limits = {
      apiVersion: "v1",
      kind: "LimitRange",
      metadata: { name: "usual", namespace: "team" },
      spec: { limits: [{ type: "Container", defaultRequest: { cpu: "1" } }] },
    };
    const priority = {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name: "high" },
      globalDefault: true,
      value: 1000,
    };
    for (const each of [limits, priority])
      await plane.kubectl(["create", "-f", "-"], { input: JSON.stringify(each) });
    const facts = join(plane.directory, "all-facts.json");
    writeFileSync(facts, JSON.stringify([...inputOf({ nodes: [] }).facts.values()]));
    const run = () =>
      spawnSync(kubectl, ["ocimodel", "plan", "-f", "-", "--facts", facts, "-n", "team"], {
        encoding: "utf8",
        env: { ...environment, KUBECONFIG: plane.kubeconfig },
        input: JSON.stringify(claiming),
      });
    const without = run();
    expect(without).toMatchObject({ status: 1, stderr: "" });
    expect(without.stdout).toMatch(
      /^team\/llm: refused \(PVCPending\): there is no claim "disk" in namespace team; /,
    );
    expect(without.stdout).toContain(
      "Not judged: LimitRange usual of namespace team (requests and limits that it adds or refuses), PriorityClass high, the default of the cluster (pods that it evicts)",
    );
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "disk", namespace: "team" },
      spec: {
        accessModes: ["ReadWriteOnce"],
        storageClassName: "fast",
        resources: { requests: { storage: "1Gi" } },
      },
    };
    await plane.kubectl(["create", "-f", "-"], { input: JSON.stringify(claim) });
    expect(run().stdout).toContain(
      'claim "disk" would never be bound: the cluster has no storage class "fast"',
    );
    const fast = {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name: "fast" },
      provisioner: "csi.example",
    };
    await plane.kubectl(["create", "-f", "-"], { input: JSON.stringify(fast) });
    // As for kubectl, a Model that states no namespace is of the context's.
    const context = {
      server: plane.server,
      token: plane.adminToken,
      caFile: plane.caFile,
      namespace: "team",
    };
    const ofContext = spawnSync(kubectl, ["ocimodel", "plan", "-f", "-", "--facts", facts], {
      encoding: "utf8",
      env: { ...environment, KUBECONFIG: plane.kubeconfigFor(context) },
      input: JSON.stringify(claiming),
    });
    expect(ofContext.stdout).toContain('claim "disk" is Pending');
    const bindable = run();
    expect(bindable).toMatchObject({ status: 0, stderr: "" });
    expect(bindable.stdout).toContain(
      'Storage: PersistentVolumeClaim (claim "disk" is Pending: it is bound when',
    );
  });
});

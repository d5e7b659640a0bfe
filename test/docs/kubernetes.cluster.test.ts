// The pages' kubectl and Helm commands are run against a real control plane, and their YAML is accepted by it or by Helm.

import { chmodSync, cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { configurationSchema } from "../../operator/configuration.ts";
import { helm, manifests, template } from "../charts/chart.ts";
import { ensureKubernetesTools } from "../cluster/binary.ts";
import { startControlPlane, type ControlPlane } from "../cluster/control-plane.ts";
import { describeCluster } from "../cluster/suites.ts";
import { blocksOf, pages, root, type Block } from "./markdown.ts";
import { clusterPages, notRun } from "./not-run.ts";
import { runSession } from "./session.ts";

/** Groups whose definitions are other projects': their documents are parsed and no more. */
const foreignGroups: readonly string[] = ["kustomize.toolkit.fluxcd.io", "monitoring.coreos.com"];

/** Pages whose parts of a Model are validated by test/crds. */
const validatedElsewhere: readonly string[] = ["README.md", "docs/model-reference.md"];

const isValues = ({ text }: Block): boolean => text.startsWith("# values\n");
const yamlBlocks = (): readonly Block[] =>
  pages()
    .flatMap(blocksOf)
    .filter(({ language }) => language === "yaml");

type KubernetesObject = { readonly apiVersion: string; readonly metadata: { readonly namespace?: string } };

/** An object as it is; a part of a Model's spec, in a Model. */
function whole(value: Readonly<Record<string, unknown>>): KubernetesObject {
  if ("apiVersion" in value) return value as KubernetesObject;
  return {
    apiVersion: "ocimodel.dev/v1alpha1",
    kind: "Model",
    metadata: { name: "part" },
    spec: { source: { reference: "registry.example.com/ai/qwen3" }, ...value },
  } as KubernetesObject;
}

/** What the operator would have written, so that there is something to look at. */
const status = {
  observedGeneration: 1,
  phase: "Ready",
  variants: [{ name: "default", reference: "registry.example.com/ai/qwen3:8B-Q4_K_M", verdict: "Selected" }],
  replicas: 1,
  readyReplicas: 1,
  ready: "1/1",
  selector: "ocimodel.dev/model=qwen3,app.kubernetes.io/component=server",
  conditions: [
    {
      type: "Ready",
      status: "True",
      reason: "Available",
      message: "1 of 1 replicas are ready",
      lastTransitionTime: "2026-11-24T05:00:00Z",
      observedGeneration: 1,
    },
  ],
};

describeCluster("kubectl, Helm and YAML of the pages, on a real control plane", () => {
  let plane: ControlPlane;
  let env: Readonly<Record<string, string>>;

  beforeAll(async () => {
    plane = await startControlPlane({ scheduler: false });
    const tools = await ensureKubernetesTools();
    const bin = join(plane.directory, "bin");
    const home = join(plane.directory, "home");
    for (const path of [bin, home]) mkdirSync(path);
    writeFileSync(join(home, "company-ca.pem"), "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
    for (const [name, program] of Object.entries({ kubectl: tools.kubectl, helm: tools.helm })) {
      writeFileSync(join(bin, name), `#!/bin/sh\nexec "${program}" "$@"\n`);
      chmodSync(join(bin, name), 0o755);
    }
    // Commands may change the current namespace: in a copy.
    const kubeconfig = join(home, "kubeconfig");
    cpSync(plane.kubeconfig, kubeconfig);
    env = {
      HOME: home,
      KUBECONFIG: kubeconfig,
      PATH: `${bin}:${process.env["PATH"] ?? ""}`,
      HELM_CACHE_HOME: join(home, "cache"),
      HELM_CONFIG_HOME: join(home, "config"),
      HELM_DATA_HOME: join(home, "data"),
    };
  });
  afterAll(async () => {
    await plane?.stop();
  });

  test("values are accepted by the chart, and its operator by the configuration", async () => {
    const blocks = yamlBlocks().filter(isValues);
    expect(blocks.length).toBeGreaterThan(4);
    for (const { file, line, text } of blocks) {
      const rendered = await template(parse(text)).catch((error: unknown) => {
        throw new Error(`${file}:${line} is refused`, { cause: error });
      });
      const map = manifests(rendered).find(({ kind }) => kind === "ConfigMap");
      const { "config.yaml": configuration = "" } = (map?.["data"] ?? {}) as Record<string, string>;
      expect(configurationSchema.safeParse(parse(configuration)).error).toBeUndefined();
    }
    const refused = await helm(
      ["template", "ocimodel", join(root, "charts/ocimodel"), "--set", "replica=2"],
      { allowFailure: true },
    );
    expect(refused.stderr).toContain("replica");
  });

  test("commands run, from installing to uninstalling", async () => {
    const all = clusterPages
      .flatMap(blocksOf)
      .filter((block) => block.language === "sh" && notRun(block) === undefined);
    // Upgrade and uninstall come last in the page on installing; in between one works with it.
    const isLate = ({ file, text }: Block): boolean =>
      file === "docs/install.md" &&
      /^(?:helm upgrade ocimodel charts\/ocimodel --namespace|helm uninstall|kubectl delete|kubectl apply --server-side)/.test(
        text,
      );
    const install = all.filter((block) => block.file === "docs/install.md" && !isLate(block));
    const work = all.filter((block) => block.file !== "docs/install.md");
    const late = all.filter(isLate);
    expect([install.length > 2, work.length > 3, late.length]).toEqual([true, true, 4]);
    const setStatus: Block = {
      file: "(the operator's part)",
      line: 0,
      language: "sh",
      text: `kubectl patch model qwen3 -n ai --subresource=status --type=merge -p '${JSON.stringify({ status })}'\n`,
    };
    // A new API is in the discovery documents a moment after it is established; people type slower than this.
    const breath: Block = {
      file: "(a reader takes a breath)",
      line: 0,
      language: "sh",
      text: "timeout 60 sh -c 'until kubectl explain model >/dev/null 2>&1; do sleep 0.2; done'\n",
    };
    const toExplain = install.findIndex(({ text }) => text.startsWith("kubectl explain"));
    expect(toExplain).toBeGreaterThan(0);
    const blocks = [
      ...install.slice(0, toExplain),
      breath,
      ...install.slice(toExplain),
      setStatus,
      ...work,
      ...late,
    ];
    const ran = await runSession(blocks, { cwd: root, env });
    expect(ran.map(({ block }) => block)).toEqual(blocks);
    const printed = (start: string): string =>
      ran.find(({ block: { text } }) => text.startsWith(start))?.stdout ?? "";
    expect(printed("kubectl config set-context")).toContain("condition met");
    expect(printed("kubectl config set-context")).toContain("default\tSelected\t\n");
    expect(printed("kubectl get models --all-namespaces")).toMatch(/ai +qwen3 +/);
    expect(printed("kubectl get models --all-namespaces")).toMatch(/Available\n$/);
    expect(printed("kubectl scale")).toContain("qwen3 scaled");
    expect(printed("helm uninstall")).toContain("kept");
    expect((await plane.kubectl(["get", "crd", "-o", "name"])).stdout).toBe("");
  });

  test("every document and every example is accepted by the API server", async () => {
    await plane.kubectl(["apply", "-f", join(root, "crds/ocimodel.dev_models.yaml")]);
    await plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/models.ocimodel.dev"]);
    const examples = globSync("docs/examples/*.yaml", { cwd: root });
    expect(examples.length).toBeGreaterThan(4);
    const texts = [
      ...examples.map((file) => ({ place: file, text: readFileSync(join(root, file), "utf8") })),
      ...yamlBlocks()
        .filter((block) => !isValues(block) && !validatedElsewhere.includes(block.file))
        .map(({ file, line, text }) => ({ place: `${file}:${line}`, text })),
    ];
    const namespaces = new Set<string>();
    const foreign = new Set<string>();
    for (const { place, text } of texts) {
      for (const document of parseAllDocuments(text)) {
        expect([place, document.errors]).toEqual([place, []]);
        const object = whole(document.toJS() as Readonly<Record<string, unknown>>);
        const group = object.apiVersion.split("/")[0] ?? "";
        if (foreignGroups.includes(group)) {
          foreign.add(group);
          continue;
        }
        const namespace = object.metadata.namespace ?? "default";
        if (!namespaces.has(namespace)) {
          await plane.kubectl(["create", "namespace", namespace], { allowFailure: true });
          namespaces.add(namespace);
        }
        const args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        const answer = await plane.kubectl(args, { input: JSON.stringify(object), allowFailure: true });
        expect([place, answer.exitCode, answer.stderr]).toEqual([place, 0, ""]);
      }
    }
    expect([...foreign].sort()).toEqual([...foreignGroups].sort());
    rmSync(join(plane.directory, "home"), { recursive: true, force: true });
  });
});

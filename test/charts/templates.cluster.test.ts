import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { configurationSchema } from "../../operator/configuration.ts";
import { describeCluster } from "../cluster/suites.ts";
import { crdFile } from "../crds/schema.ts";
import { podSpecOf, restrictedViolations } from "../operator/desired/restricted.ts";
import { chartDirectory, helm, manifests, template, type Manifest } from "./chart.ts";

const goldenDirectory = join(import.meta.dirname, "../golden/charts");
const cases = readdirSync(goldenDirectory)
  .filter((file) => file.endsWith(".in.yaml"))
  .map((file) => ({
    name: file.slice(0, -".in.yaml".length),
    values: parse(readFileSync(join(goldenDirectory, file), "utf8")) as unknown,
  }));

type Rule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
};

function rulesOf(objects: readonly Manifest[]): readonly Rule[] {
  return objects
    .filter(({ kind }) => kind === "Role" || kind === "ClusterRole")
    .flatMap((role) => role["rules"] as readonly Rule[]);
}

function configurationOf(objects: readonly Manifest[]): unknown {
  const data = objects.find(({ kind }) => kind === "ConfigMap")?.["data"] as
    Record<string, string> | undefined;
  return parse(data?.["config.yaml"] ?? "");
}

describeCluster("the chart's templates", () => {
  test("helm lint finds nothing", async () => {
    const { stdout } = await helm(["lint", "--strict", chartDirectory]);
    expect(stdout).toContain("1 chart(s) linted, 0 chart(s) failed");
    expect(stdout).not.toContain("[WARNING]");
  });

  describe.each(cases)("with the values $name", ({ name, values }) => {
    let text = "";
    let objects: readonly Manifest[] = [];

    test("render as in the golden file", async () => {
      text = await template({ ...(values as object), crds: { install: false } });
      objects = manifests(text);
      await expect(text).toMatchFileSnapshot(join(goldenDirectory, `${name}.out.yaml`));
    });

    test("give no right on Secrets, no wildcard, no right to gain rights", () => {
      const rules = rulesOf(objects);
      expect(rules.length).toBeGreaterThan(5);
      for (const { apiGroups, resources, verbs } of rules) {
        expect([...apiGroups, ...resources, ...verbs]).not.toContain("*");
        expect(resources).not.toContain("secrets");
        expect(
          resources.filter((each) => /serviceaccounts|roles|rolebindings|webhook|exec|token/.test(each)),
        ).toEqual([]);
        expect(verbs.filter((each) => ["escalate", "bind", "impersonate"].includes(each))).toEqual([]);
      }
    });

    test("make a pod that passes restricted, with requests and limits", () => {
      const deployment = objects.find(({ kind }) => kind === "Deployment");
      const spec = podSpecOf(deployment ?? {}) ?? {};
      expect(restrictedViolations(spec)).toEqual([]);
      expect(spec["containers"]).toMatchObject([
        { securityContext: { readOnlyRootFilesystem: true }, resources: { requests: {}, limits: {} } },
      ]);
    });

    test("make a configuration that the operator takes", () => {
      expect(configurationSchema.safeParse(configurationOf(objects)).error).toBeUndefined();
    });
  });

  test("the DaemonSet of the node caches may no more than make directories, and its pod that goes on is restricted but for the path", async () => {
    const objects = manifests(
      await template({
        nodeCache: { enabled: true, namespaces: [{ name: "team" }] },
        crds: { install: false },
      }),
    );
    type DaemonSet = Manifest & {
      readonly spec: { readonly template: { readonly spec: { readonly initContainers: readonly object[] } } };
    };
    const [daemonSet] = objects.filter((object): object is DaemonSet => object.kind === "DaemonSet");
    const spec = daemonSet?.spec.template.spec ?? { initContainers: [] };
    const { initContainers, ...lasting } = spec;
    expect(restrictedViolations(lasting)).toEqual(["volume cache is of type hostPath"]);
    expect(initContainers).toMatchObject([
      {
        securityContext: {
          runAsUser: 0,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"], add: ["CHOWN", "FOWNER", "FSETID"] },
        },
      },
    ]);
    for (const container of [
      ...initContainers,
      ...((lasting as unknown as Manifest)["containers"] as object[]),
    ])
      expect(container).toMatchObject({ resources: { requests: {}, limits: {} } });
    expect(spec).toMatchObject({ automountServiceAccountToken: false });
    expect(JSON.stringify(spec)).not.toMatch(/hostPID|hostNetwork|hostIPC|"privileged":true/);
  });

  test("node caches are off unless they are asked for", async () => {
    const kinds = manifests(await template({ crds: { install: false } })).map(({ kind }) => kind);
    for (const kind of ["DaemonSet", "PersistentVolume", "PersistentVolumeClaim"])
      expect(kinds).not.toContain(kind);
  });

  test("the definition is the one of crds/, kept on uninstall", async () => {
    const objects = manifests(await template({}));
    const rendered = objects.find(({ kind }) => kind === "CustomResourceDefinition");
    const own = parse(readFileSync(crdFile, "utf8")) as { metadata: object; spec: object };
    expect(rendered?.["spec"]).toEqual(own.spec);
    expect(rendered?.metadata).toMatchObject({
      ...own.metadata,
      annotations: { "helm.sh/resource-policy": "keep" },
    });
  });

  test("in a namespaced scope the only right on the cluster is to read nodes, their devices, volumes and storage classes", async () => {
    const objects = manifests(
      await template({ scope: "namespaced", namespaces: ["a"], crds: { install: false } }),
    );
    const clusterRoles = objects.filter(({ kind }) => kind === "ClusterRole");
    expect(rulesOf(clusterRoles)).toEqual([
      { apiGroups: [""], resources: ["nodes"], verbs: ["list", "watch"] },
      { apiGroups: ["resource.k8s.io"], resources: ["resourceslices"], verbs: ["list", "watch"] },
      { apiGroups: [""], resources: ["persistentvolumes"], verbs: ["list", "watch"] },
      { apiGroups: ["storage.k8s.io"], resources: ["storageclasses"], verbs: ["list", "watch"] },
    ]);
  });

  test("the operator starts again when its configuration changes, and only then", async () => {
    const annotation = async (values: object): Promise<string> => {
      const deployment = manifests(await template({ ...values, crds: { install: false } })).find(
        ({ kind }) => kind === "Deployment",
      );
      type Spec = {
        readonly template: { readonly metadata: { readonly annotations: Record<string, string> } };
      };
      const spec = deployment?.["spec"] as Spec | undefined;
      return spec?.template.metadata.annotations["ocimodel.dev/configuration"] ?? "";
    };
    const before = await annotation({});
    expect(before).toMatch(/^[0-9a-f]{64}$/);
    expect(await annotation({ replicas: 2, podLabels: { a: "b" } })).toBe(before);
    expect(await annotation({ concurrency: 5 })).not.toBe(before);
  });

  test.each<[string, object, string]>([
    ["an unknown value", { replica: 2 }, "replica"],
    ["an unknown scope", { scope: "all" }, "/scope"],
    ["a namespaced scope without namespaces", { scope: "namespaced" }, "/namespaces"],
    ["replicas as text", { replicas: "2" }, "/replicas"],
    ["an image without a repository", { image: { repository: "" } }, "/image/repository"],
    ["a digest that is none", { image: { digest: "latest" } }, "/image/digest"],
    ["an unknown pull policy", { pullerImage: { pullPolicy: "Sometimes" } }, "/pullerImage/pullPolicy"],
    [
      "a runtime without an image",
      { runtimes: { own: { formats: ["gguf"], cpu: true, port: 80 } } },
      "/runtimes/own",
    ],
    [
      "a runtime for an unknown format",
      { runtimes: { own: { image: "x", formats: ["onnx"], cpu: true, port: 80 } } },
      "/runtimes/own/formats/0",
    ],
    [
      "a runtime's health path without a slash",
      { runtimes: { vllm: { healthPath: "health" } } },
      "/runtimes/vllm/healthPath",
    ],
    [
      "a variable from a Secret for pullers",
      { pullerEnv: [{ name: "A", valueFrom: { secretKeyRef: { name: "s", key: "k" } } }] },
      "/pullerEnv/0",
    ],
    ["a node cache for nobody", { nodeCache: { enabled: true } }, "/nodeCache/namespaces"],
    [
      "a node cache for a namespace by its name alone",
      { nodeCache: { enabled: true, namespaces: ["team"] } },
      "/nodeCache/namespaces/0",
    ],
    [
      "a namespace that leads elsewhere",
      { nodeCache: { enabled: true, namespaces: [{ name: "../etc" }] } },
      "/nodeCache/namespaces/0/name",
    ],
    ["a path that leads elsewhere", { nodeCache: { path: "/var/../etc" } }, "/nodeCache/path"],
    ["a whole disk for a path", { nodeCache: { path: "/" } }, "/nodeCache/path"],
    ["a limit that is none", { nodeCache: { sizeLimit: "200GB" } }, "/nodeCache/sizeLimit"],
    ["concurrency of nothing", { concurrency: 0 }, "/concurrency"],
    ["an unknown log level", { logLevel: "trace" }, "/logLevel"],
  ])("the values' schema refuses %s", async (_name, values, where) => {
    const { exitCode, stderr } = await helm(["template", "ocimodel", chartDirectory], {
      values,
      allowFailure: true,
    });
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("values don't meet the specifications of the schema");
    expect(stderr).toContain(where);
  });
});

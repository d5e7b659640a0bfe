import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { request } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TerminationMessage } from "../../puller/contract.ts";
import { freePort, startControlPlane, type ControlPlane } from "../cluster/control-plane.ts";
import { startServer, waitFor, type Server } from "../cluster/run-command.ts";
import { describeCluster } from "../cluster/suites.ts";
import { apiRequests } from "../crds/api-request.ts";
import { chartDirectory } from "./chart.ts";

const system = "ocimodel-system";
const team = "team-a";
const account = `system:serviceaccount:${system}:ocimodel`;
const reference = "registry.example.com/ai/tiny:q4";

type AuditEvent = {
  readonly verb: string;
  readonly user: { readonly username: string };
  readonly objectRef?: {
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
  };
  readonly responseStatus?: { readonly code: number };
};

/** What the puller would have said, had there been a node to run it. */
const inspected: TerminationMessage = {
  v: 1,
  command: "inspect",
  code: "Ready",
  retryable: false,
  message: "read",
  inspected: [
    {
      reference,
      digest: `sha256:${"a".repeat(64)}`,
      packaging: "docker",
      format: "gguf",
      sizeBytes: 1_000_000,
      weightBytes: 1_000_000,
      entry: "model.gguf",
    },
  ],
};

describeCluster("the chart on a real API server, in namespaces that enforce restricted", () => {
  let plane: ControlPlane;
  let ask: ReturnType<typeof apiRequests>["ask"];
  let close: () => Promise<void>;
  let operator: Server | undefined;

  beforeAll(async () => {
    plane = await startControlPlane({ auditLog: true, scheduler: false });
    ({ ask, close } = apiRequests(plane));
    for (const namespace of [system, team]) {
      await plane.kubectl(["create", "namespace", namespace]);
      await plane.kubectl(["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"]);
    }
  });
  afterAll(async () => {
    await operator?.stop();
    await close?.();
    await plane?.stop();
  });

  const release = async (command: "install" | "upgrade", ...more: readonly string[]): Promise<string> =>
    (await plane.helm([command, "ocimodel", chartDirectory, "--namespace", system, ...more])).stdout;

  /** Runs the operator of this checkout as the chart would: with its configuration and its service account. */
  async function startOperator(): Promise<{ readonly health: string }> {
    const { stdout: configuration } = await plane.kubectl([
      "get",
      "configmap",
      "ocimodel",
      "-n",
      system,
      "-o",
      "jsonpath={.data.config\\.yaml}",
    ]);
    const file = join(plane.directory, "config.yaml");
    writeFileSync(file, configuration);
    const { stdout: token } = await plane.kubectl(["create", "token", "ocimodel", "-n", system]);
    const health = `127.0.0.1:${await freePort()}`;
    operator = startServer(
      process.execPath,
      [
        join(import.meta.dirname, "../../operator/main.ts"),
        `--config=${file}`,
        `--health-address=${health}`,
        `--metrics-address=127.0.0.1:${await freePort()}`,
        `--leader-election-namespace=${system}`,
      ],
      {
        logFile: join(plane.directory, "operator.log"),
        env: { KUBECONFIG: plane.kubeconfigFor({ token: token.trim() }) },
      },
    );
    await waitFor(
      "the operator to be ready and to lead",
      async () => {
        try {
          const answer = await request(`http://${health}/readyz`);
          return (await answer.body.text()).trim() === "ok" && answer.statusCode === 200;
        } catch {
          return false;
        }
      },
      { timeoutMs: 30_000, describe: () => operator?.log() ?? "" },
    );
    return { health };
  }

  /** Plays the kubelet: the inspect pod of the Model ends with what the puller would have said. */
  async function answerInspection(): Promise<void> {
    const pods = `/api/v1/namespaces/${team}/pods`;
    const selector = "labelSelector=app.kubernetes.io/component%3Dinspect";
    const name = await waitFor(
      "the inspect pod",
      async () => {
        const { body } = await ask("GET", `${pods}?${selector}`);
        const [pod] = body["items"] as { metadata: { name: string } }[];
        return pod?.metadata.name;
      },
      { timeoutMs: 30_000, describe: () => operator?.log() ?? "" },
    );
    const time = new Date().toISOString().replace(/\.\d+/, "");
    const terminated = {
      exitCode: 0,
      reason: "Completed",
      message: `${JSON.stringify(inspected)}\n`,
      startedAt: time,
      finishedAt: time,
    };
    const containerStatuses = [
      { name: "inspect", image: "x", imageID: "x", ready: false, restartCount: 0, state: { terminated } },
    ];
    await ask(
      "PATCH",
      `${pods}/${name}/status`,
      { status: { phase: "Succeeded", containerStatuses } },
      "application/merge-patch+json",
    );
    await waitFor(
      "the inspect pod to be deleted",
      async () => (await ask("GET", `${pods}/${name}`)).status === 404,
      {
        timeoutMs: 30_000,
        describe: () => operator?.log() ?? "",
      },
    );
  }

  async function addNode(): Promise<void> {
    await ask("POST", "/api/v1/nodes", {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "paper", labels: { "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" } },
    });
    const resources = { cpu: "8", memory: "32Gi", pods: "110", "ephemeral-storage": "100Gi" };
    const now = new Date().toISOString();
    const conditions = [
      {
        type: "Ready",
        status: "True",
        reason: "Test",
        message: "",
        lastHeartbeatTime: now,
        lastTransitionTime: now,
      },
    ];
    const status = { capacity: resources, allocatable: resources, conditions };
    await ask("PATCH", "/api/v1/nodes/paper/status", { status }, "application/merge-patch+json");
  }

  test("installs: the definition is there, and the operator's pod is admitted", async () => {
    expect(await release("install")).toContain("STATUS: deployed");
    await plane.kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd/models.ocimodel.dev"]);
    const pods = await waitFor("the operator's pod", async () => {
      const { stdout } = await plane.kubectl(["get", "pods", "-n", system, "-o", "name"]);
      return stdout.trim() === "" ? undefined : stdout.trim();
    });
    expect(pods).toMatch(/^pod\/ocimodel-/);
  });

  test("its service account can do nothing with Secrets, anywhere", async () => {
    for (const namespace of [system, team, "kube-system"]) {
      for (const verb of ["get", "list", "watch", "create", "update", "patch", "delete"]) {
        const { stdout } = await plane.kubectl(
          ["auth", "can-i", verb, "secrets", "-n", namespace, `--as=${account}`],
          { allowFailure: true },
        );
        expect(`${namespace} ${verb} ${stdout.trim()}`).toBe(`${namespace} ${verb} no`);
      }
    }
  });

  test("its rights are enough for a whole life of a Model, and none is unused", async () => {
    await addNode();
    await startOperator();
    await plane.kubectl(["apply", "-n", team, "-f", "-"], {
      input: JSON.stringify({
        apiVersion: "ocimodel.dev/v1alpha1",
        kind: "Model",
        metadata: { name: "tiny" },
        spec: { source: { reference } },
      }),
    });
    await answerInspection();
    const deployment = `/apis/apps/v1/namespaces/${team}/deployments/tiny`;
    await waitFor("the Deployment", async () => (await ask("GET", deployment)).status === 200, {
      timeoutMs: 30_000,
      describe: () => operator?.log() ?? "",
    });
    await waitFor("a pod of it, which restricted admits", async () => {
      const { stdout } = await plane.kubectl([
        "get",
        "pods",
        "-n",
        team,
        "-l",
        "app.kubernetes.io/component=server",
        "-o",
        "name",
      ]);
      return stdout.trim() !== "";
    });
    const claim = `/api/v1/namespaces/${team}/persistentvolumeclaims/tiny-store`;
    const store = async (storage: object): Promise<void> => {
      await plane.kubectl([
        "patch",
        "model",
        "tiny",
        "-n",
        team,
        "--type=merge",
        "-p",
        JSON.stringify({ spec: { storage } }),
      ]);
    };
    await store({ type: "PersistentVolumeClaim" });
    await waitFor("the claim, and pods that mount it", async () => {
      const { body } = await ask("GET", deployment);
      const volumes = JSON.stringify(body["spec"]);
      return (await ask("GET", claim)).status === 200 && volumes.includes('"claimName":"tiny-store"');
    });
    await waitFor("the condition to say that the claim is not bound", async () => {
      const { body } = await ask("GET", `/apis/ocimodel.dev/v1alpha1/namespaces/${team}/models/tiny`);
      return JSON.stringify(body["status"]).includes('"reason":"PVCPending"');
    });
    await store({ type: "Ephemeral" });
    await waitFor("the claim to be deleted", async () => {
      const { status, body } = await ask("GET", claim);
      const { deletionTimestamp } = (body["metadata"] ?? {}) as { deletionTimestamp?: string };
      // As long as an old pod mounts it, it only goes.
      return status === 404 || deletionTimestamp !== undefined;
    });
    const selection = JSON.stringify({ spec: { selection: { placement: "PerHardware" } } });
    await plane.kubectl(["patch", "model", "tiny", "-n", team, "--type=merge", "-p", selection]);
    await waitFor(
      "a Deployment of a class in the place of the one of all",
      async () => (await ask("GET", deployment)).status === 404,
      { describe: () => operator?.log() ?? "" },
    );
    // Its objects go by their owner references; the operator needs no right for that.
    await plane.kubectl(["delete", "model", "tiny", "-n", team]);
    await operator?.stop("SIGTERM");

    const mine = readFileSync(plane.auditLogPath ?? "", "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as AuditEvent)
      .filter(({ user }) => user.username === account);
    expect(mine.length).toBeGreaterThan(20);
    expect(mine.filter(({ responseStatus }) => responseStatus?.code === 403)).toEqual([]);
    const used = new Set(
      mine.flatMap(({ verb, objectRef }) => {
        // Discovery asks for no object; everybody who is authenticated may.
        if (objectRef?.resource === undefined) return [];
        const { resource, subresource } = objectRef;
        return [`${verb} ${resource}${subresource === undefined ? "" : `/${subresource}`}`];
      }),
    );
    // A server-side apply is a patch in the audit log; what it creates needs the right to create as well.
    const implied = ["create deployments", "create services", "create persistentvolumeclaims"];
    // Only where a pod of somebody else has the name of an inspect pod, and where a cluster gives out devices by claims.
    const ofClaims = ["create", "delete", "get", "patch"].map((verb) => `${verb} resourceclaimtemplates`);
    expect([...used, ...implied, "get pods", ...ofClaims].sort()).toEqual(
      [
        ...(await granted("clusterrole", `${system}-ocimodel`)),
        ...(await granted("role", "ocimodel-leader-election")),
      ].sort(),
    );
  });

  async function granted(kind: string, name: string): Promise<readonly string[]> {
    const { stdout } = await plane.kubectl(["get", kind, name, "-n", system, "-o", "json"]);
    const { rules } = JSON.parse(stdout) as { rules: { resources: string[]; verbs: string[] }[] };
    return rules.flatMap(({ resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
    );
  }

  test("upgrades to named namespaces: rights elsewhere are gone, the operator starts with the new configuration", async () => {
    const out = await release("upgrade", "--set", "scope=namespaced", "--set", `namespaces={${team}}`);
    expect(out).toContain("REVISION: 2");
    const can = async (verb: string, resource: string, namespace: string): Promise<string> =>
      (
        await plane.kubectl(["auth", "can-i", verb, resource, "-n", namespace, `--as=${account}`], {
          allowFailure: true,
        })
      ).stdout.trim();
    // The API server acts on changed roles a little after it has stored them.
    for (const [verb, resource, namespace, answer] of [
      ["create", "pods", team, "yes"],
      ["list", "persistentvolumes", team, "yes"],
      ["create", "pods", "default", "no"],
      ["list", "models.ocimodel.dev", "default", "no"],
    ] as const)
      await waitFor(
        `${answer} to ${verb} ${resource} in ${namespace}`,
        async () => (await can(verb, resource, namespace)) === answer,
      );
    await startOperator();
    await operator?.stop("SIGTERM");
    expect(operator?.log()).not.toContain("list or watch failed");
  });

  test("upgrades the definition with the chart, which Helm's own folder for definitions would not", async () => {
    const older = join(plane.directory, "older-chart");
    cpSync(chartDirectory, older, { recursive: true });
    const file = join(older, "files/models.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace("name: Pulled", "name: Fetched"));
    const columns = async (): Promise<string> =>
      (
        await plane.kubectl([
          "get",
          "crd",
          "models.ocimodel.dev",
          "-o",
          "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}",
        ])
      ).stdout;
    await plane.helm(["upgrade", "ocimodel", older, "--namespace", system]);
    expect(await columns()).toContain("Fetched");
    await release("upgrade");
    expect(await columns()).toBe("Variant Pulled Ready Status Age Size Digest Reason");
  });

  test("uninstalls: the definition and the Models stay, and a new release takes them over", async () => {
    await plane.kubectl(["apply", "-n", team, "-f", "-"], {
      input: JSON.stringify({
        apiVersion: "ocimodel.dev/v1alpha1",
        kind: "Model",
        metadata: { name: "kept" },
        spec: { source: { reference } },
      }),
    });
    await plane.helm(["uninstall", "ocimodel", "--namespace", system]);
    const labelled = ["-l", "app.kubernetes.io/name=ocimodel-operator", "-o", "name"];
    const left = await plane.kubectl([
      "get",
      "deployments,services,configmaps,serviceaccounts,roles,rolebindings",
      "-A",
      ...labelled,
    ]);
    const leftInCluster = await plane.kubectl(["get", "clusterroles,clusterrolebindings", ...labelled]);
    expect(left.stdout + leftInCluster.stdout).toBe("");
    expect((await plane.kubectl(["get", "models", "-n", team, "-o", "name"])).stdout).toContain("kept");
    expect(await release("install")).toContain("STATUS: deployed");
    expect((await plane.kubectl(["get", "models", "-n", team, "-o", "name"])).stdout).toContain("kept");
  });
});

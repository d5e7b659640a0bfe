import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { cgroupRoots, nodeRecordFile, removeNodeLeftovers } from "./node-cleanup.ts";
import { network } from "./node-network.ts";
import { startCluster } from "./node.ts";
import { pauseImageName } from "./pause-image.ts";
import { runCommand, waitFor } from "./run-command.ts";
import { describeNode } from "./suites.ts";

const restricted = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  runAsNonRoot: true,
  runAsUser: 65532,
  seccompProfile: { type: "RuntimeDefault" },
};

function busybox(name: string, script: string, mounts: readonly object[], more: object = {}): object {
  return {
    name,
    image: pauseImageName,
    imagePullPolicy: "Never",
    command: ["/busybox", "sh", "-c", script],
    volumeMounts: mounts,
    securityContext: restricted,
    ...more,
  };
}

/** What a node leaves on this machine, in words; empty when it left nothing. */
async function leftovers(): Promise<readonly string[]> {
  const { stdout: links } = await runCommand("ip", ["-brief", "link"]);
  const { stdout: namespaces } = await runCommand("ip", ["netns", "list"]);
  const { stdout: rules } = await runCommand("iptables-save", [], { allowFailure: true });
  return [
    ...[network.bridge, network.nodeLink].filter((name) => links.includes(name)),
    ...namespaces.split("\n").filter((name) => name.startsWith(network.namespacePrefix)),
    ...readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .filter((line) => line.includes("/ocimodel-node-")),
    ...cgroupRoots().filter((path) => existsSync(path)),
    ...rules.split("\n").filter((line) => line.includes("KUBE-")),
    ...(existsSync(nodeRecordFile) ? [nodeRecordFile] : []),
  ];
}

describeNode("real node", () => {
  test("runs restricted pods with init container, subPath mount, logs, exec and a Service, and leaves nothing", async () => {
    const cluster = await startCluster();
    try {
      await cluster.kubectl(["create", "namespace", "team"]);
      await cluster.kubectl(["label", "namespace", "team", "pod-security.kubernetes.io/enforce=restricted"]);
      const objects = {
        apiVersion: "v1",
        kind: "List",
        items: [
          {
            apiVersion: "v1",
            kind: "Pod",
            metadata: { name: "web", namespace: "team", labels: { app: "web" } },
            spec: {
              terminationGracePeriodSeconds: 0,
              securityContext: { fsGroup: 65532 },
              volumes: [{ name: "model", emptyDir: {} }],
              initContainers: [
                busybox("init", "/busybox mkdir -p /v/models/x && echo hello > /v/models/x/index.html", [
                  { name: "model", mountPath: "/v" },
                ]),
              ],
              containers: [
                busybox(
                  "web",
                  "echo serving; if echo x > /m/index.html; then echo WRITABLE; fi; exec /busybox httpd -f -p 8080 -h /m",
                  [{ name: "model", mountPath: "/m", subPath: "models/x", readOnly: true }],
                  { readinessProbe: { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 } },
                ),
              ],
            },
          },
          {
            apiVersion: "v1",
            kind: "Service",
            metadata: { name: "web", namespace: "team" },
            spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
          },
        ],
      };
      await cluster.kubectl(["apply", "-f", "-"], { input: JSON.stringify(objects) });
      await cluster.kubectl(["wait", "-n", "team", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
      const { stdout: logs } = await cluster.kubectl(["logs", "-n", "team", "web", "-c", "web"]);
      expect(logs).toContain("serving");
      expect(logs).not.toContain("WRITABLE");
      const { stdout: executed } = await cluster.kubectl([
        "exec",
        "-n",
        "team",
        "web",
        "--",
        "/busybox",
        "id",
        "-u",
      ]);
      expect(executed.trim()).toBe("65532");
      const { stdout: address } = await cluster.kubectl([
        "get",
        "service",
        "-n",
        "team",
        "web",
        "-o",
        "jsonpath={.spec.clusterIP}",
      ]);
      // Through the Service, from a pod's side of the network: a namespace of ours on the same bridge.
      const outside = await cluster.node.attachNamespace("client");
      const [command = "", ...prefix] = outside.execPrefix;
      const fetchPage = `fetch("http://${address}/").then(async (answer) => console.log(await answer.text()))`;
      const page = await waitFor("the Service to answer", async () => {
        const { stdout, exitCode } = await runCommand(
          command,
          [...prefix, process.execPath, "-e", fetchPage],
          {
            allowFailure: true,
          },
        );
        return exitCode === 0 && stdout !== "" && stdout;
      });
      expect(page.trim()).toBe("hello");
    } finally {
      await cluster.stop();
    }
    expect(await leftovers()).toEqual([]);
  });

  test("what a killed run leaves is removed by the next", async () => {
    const program = `
      const { startCluster } = await import(${JSON.stringify(join(import.meta.dirname, "node.ts"))});
      await startCluster();
      console.log("up");
      setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise<void>((resolve) => {
      owner.stdout.once("data", () => {
        resolve();
      });
    });
    owner.kill("SIGKILL");
    await new Promise((resolve) => owner.on("exit", resolve));
    expect(await leftovers()).not.toEqual([]);
    await removeNodeLeftovers();
    expect(await leftovers()).toEqual([]);
  });
});

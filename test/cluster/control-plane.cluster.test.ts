import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTicks } from "./cache.ts";
import { startControlPlane, type ControlPlane } from "./control-plane.ts";
import { waitFor } from "./run-command.ts";
import { describeCluster } from "./suites.ts";

function commandLines(): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        return "";
      }
    });
}

describeCluster("control plane", () => {
  let first: ControlPlane;
  let second: ControlPlane;
  beforeAll(async () => {
    [first, second] = await Promise.all([startControlPlane({ auditLog: true }), startControlPlane()]);
  });
  afterAll(async () => {
    await Promise.all([first?.stop(), second?.stop()]);
  });

  test("answers with the version it is built from", async () => {
    const { stdout } = await first.kubectl(["version", "-o", "json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      serverVersion: { gitVersion: "v1.36.3", major: "1", minor: "36" },
    });
  });

  test("two at once know nothing of each other", async () => {
    await first.kubectl(["create", "namespace", "only-here"]);
    const { exitCode, stderr } = await second.kubectl(["get", "namespace", "only-here"], {
      allowFailure: true,
    });
    expect(exitCode).toBe(1);
    expect(stderr).toContain("NotFound");
  });

  test("enforces RBAC and Pod Security", async () => {
    await first.kubectl(["create", "serviceaccount", "nobody"]);
    const { stdout: token } = await first.kubectl(["create", "token", "nobody"]);
    const kubeconfig = first.kubeconfigFor({ token: token.trim() });
    const denied = await first.kubectl(["get", "secrets"], { kubeconfig, allowFailure: true });
    expect(denied.stderr).toContain("Forbidden");
    await first.kubectl(["label", "namespace", "only-here", "pod-security.kubernetes.io/enforce=restricted"]);
    const pod = await first.kubectl(["run", "root", "--image=x", "--privileged", "-n", "only-here"], {
      allowFailure: true,
    });
    expect(pod.stderr).toContain("violates PodSecurity");
  });

  test("collects what loses its owner", async () => {
    const apply = async (object: object): Promise<string> =>
      (
        await first.kubectl(["create", "-o", "jsonpath={.metadata.uid}", "-f", "-"], {
          input: JSON.stringify(object),
        })
      ).stdout;
    const uid = await apply({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "owner" } });
    await apply({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        name: "owned",
        ownerReferences: [{ apiVersion: "v1", kind: "ConfigMap", name: "owner", uid }],
      },
    });
    await first.kubectl(["delete", "configmap", "owner"]);
    await waitFor("the owned object to go", async () => {
      const { exitCode } = await first.kubectl(["get", "configmap", "owned"], { allowFailure: true });
      return exitCode !== 0;
    });
  });

  test("writes an audit log when asked", () => {
    const lines = readFileSync(first.auditLogPath ?? "", "utf8")
      .trim()
      .split("\n");
    expect(lines.length).toBeGreaterThan(10);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ kind: "Event", stage: expect.any(String) });
  });

  test("Helm 4 reaches it", async () => {
    expect((await first.helm(["version", "--short"])).stdout).toMatch(/^v4\./);
    expect((await first.helm(["list"])).stdout).toContain("NAME");
  });

  test("an aborted start leaves no process and no file", async () => {
    const directory = join(first.directory, "aborted");
    const controller = new AbortController();
    const started = startControlPlane({ directory, signal: controller.signal });
    await waitFor("etcd to start", () => existsSync(join(directory, "etcd")));
    controller.abort(new Error("called off"));
    await expect(started).rejects.toThrow("called off");
    expect(existsSync(directory)).toBe(false);
    expect(commandLines().filter((line) => line.includes(directory))).toEqual([]);
  });

  test("a server that cannot start is named with its log, at once", async () => {
    const directory = join(first.directory, "broken");
    mkdirSync(directory);
    // etcd finds a file where its data folder is to be.
    writeFileSync(join(directory, "etcd"), "");
    await expect(startControlPlane({ directory })).rejects.toThrow(/--- etcd\n.*not a directory/s);
    expect(existsSync(directory)).toBe(false);
  });

  test("a killed owner leaves no process, and the next start removes its files", async () => {
    const program = `
      const { startControlPlane } = await import(${JSON.stringify(join(import.meta.dirname, "control-plane.ts"))});
      const plane = await startControlPlane({ controllers: false, scheduler: false });
      console.log(JSON.stringify({ processes: plane.processes, directory: plane.directory }));
      setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const line = await new Promise<string>((resolve) => {
      owner.stdout.once("data", (chunk: Buffer) => {
        resolve(chunk.toString());
      });
    });
    const { processes, directory } = JSON.parse(line) as Pick<ControlPlane, "processes" | "directory">;
    expect(processes.map(({ name }) => name)).toEqual(["etcd", "kube-apiserver"]);
    for (const { pid } of processes) expect(startTicks(pid)).not.toBe("");
    owner.kill("SIGKILL");
    await waitFor("its children to be gone", () => processes.every(({ pid }) => startTicks(pid) === ""));
    // Other suites start control planes at the same time, and may have removed it by now.
    const next = await startControlPlane({ controllers: false, scheduler: false });
    expect(existsSync(directory)).toBe(false);
    await next.stop();
    expect(existsSync(next.directory)).toBe(false);
  });
});

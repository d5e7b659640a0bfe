// Starts a real control plane on free ports of 127.0.0.1: etcd, API server, controller manager, scheduler. No node.

import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { componentPath, ensureKubernetesTools, type Component } from "./binary.ts";
import { isAlive, startTicks, writeWhole } from "./cache.ts";
import { makeCertificates } from "./certificates.ts";
import { kubeconfigText } from "./kubeconfig.ts";
import {
  runCommand,
  startServer,
  waitFor,
  type CommandOptions,
  type CommandResult,
  type Server,
} from "./run-command.ts";

export type ControlPlaneOptions = {
  /** Aborts the start. */
  readonly signal?: AbortSignal;
  readonly auditLog?: boolean;
  /** The controller manager: garbage collector, Deployments, service accounts. Default true. */
  readonly controllers?: boolean;
  readonly scheduler?: boolean;
  /** Processes go on after this one ends; `make cluster-up` only. */
  readonly detached?: boolean;
  /** An address of this machine that pods reach; the API server then listens there too and fills the `kubernetes` Service. */
  readonly advertiseAddress?: string;
  /** Where files go; default a fresh folder under the system's temporary one. */
  readonly directory?: string;
};

/** A running control plane. */
export type ControlPlane = {
  /** https URL on 127.0.0.1. */
  readonly server: string;
  /** File with the administrator's kubeconfig. */
  readonly kubeconfig: string;
  readonly caFile: string;
  readonly adminToken: string;
  readonly directory: string;
  /** Audit events as JSON lines; only with `auditLog`. */
  readonly auditLogPath?: string;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  kubectl(
    args: readonly string[],
    options?: CommandOptions & { readonly kubeconfig?: string },
  ): Promise<CommandResult>;
  helm(
    args: readonly string[],
    options?: CommandOptions & { readonly kubeconfig?: string },
  ): Promise<CommandResult>;
  /** A kubeconfig file for another server address (a proxy before it) or another token. */
  kubeconfigFor(options: {
    readonly server?: string;
    readonly token?: string;
    readonly caFile?: string;
    readonly namespace?: string;
  }): string;
  stop(): Promise<void>;
};

const prefix = "ocimodel-cluster-";

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Removes our folders of runs whose process is gone: a killed run cleans nothing itself. */
function sweep(): void {
  for (const name of readdirSync(tmpdir()).filter((each) => each.startsWith(prefix))) {
    const directory = join(tmpdir(), name);
    const status = statSync(directory, { throwIfNoEntry: false });
    if (status === undefined || status.uid !== process.getuid?.()) continue;
    if (!hasLivingOwner(directory, status.mtimeMs)) rmSync(directory, { recursive: true, force: true });
  }
}

function hasLivingOwner(directory: string, changedMs: number): boolean {
  try {
    return isAlive(
      JSON.parse(readFileSync(join(directory, "owner.json"), "utf8")) as Parameters<typeof isAlive>[0],
    );
  } catch {
    // Without an owner it is being made, or was when its run was killed.
    return Date.now() - changedMs < 60_000;
  }
}

/**
 * Starts etcd and the API server (ready in about 2 s), then the others. Everything dies with this process. Aborting the
 * signal while it starts ends all of it.
 */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  sweep();
  for (let attempt = 1; ; attempt += 1) {
    options.signal?.throwIfAborted();
    const directory = options.directory ?? mkdtempSync(join(tmpdir(), prefix));
    mkdirSync(directory, { recursive: true });
    writeWhole(
      join(directory, "owner.json"),
      JSON.stringify({ pid: process.pid, startTicks: startTicks(process.pid) }),
    );
    const servers: NamedServer[] = [];
    try {
      return await boot(directory, options, servers);
    } catch (error) {
      const logs = servers.map(({ name, server }) => `--- ${name}\n${server.log()}`).join("\n");
      await stopAll(directory, servers);
      options.signal?.throwIfAborted();
      // Another process may have taken a port between our finding it free and the server's listening.
      if (attempt < 3 && logs.includes("address already in use")) continue;
      throw new Error(`the control plane did not start\n${logs}`, { cause: error });
    }
  }
}

type NamedServer = { readonly name: string; readonly server: Server };

async function stopAll(directory: string, servers: readonly NamedServer[]): Promise<void> {
  // Nothing is kept, so nothing is closed with care: an API server takes seconds for that.
  await Promise.all(servers.map(async ({ server }) => server.stop("SIGKILL")));
  rmSync(directory, { recursive: true, force: true });
}

async function boot(
  directory: string,
  options: ControlPlaneOptions,
  servers: NamedServer[],
): Promise<ControlPlane> {
  const start = async (name: Component, args: readonly string[]): Promise<void> => {
    const path = await componentPath(name);
    options.signal?.throwIfAborted();
    const server = startServer(path, args, {
      logFile: join(directory, `${name}.log`),
      cwd: directory,
      ...(options.detached === undefined ? {} : { detached: options.detached }),
    });
    servers.push({ name, server });
  };
  const ready = async (what: string, isReady: () => Promise<boolean>): Promise<void> => {
    await waitFor(
      what,
      async () => {
        const ended = servers.find(({ server }) => server.hasEnded());
        if (ended !== undefined) throw new Error(`${ended.name} ended`);
        return isReady();
      },
      {
        timeoutMs: 60_000,
        intervalMs: 50,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
    );
  };
  const [client, peer, secure] = [await freePort(), await freePort(), await freePort()];
  const { caFile } = await makeCertificates(directory, options.advertiseAddress);
  const file = (name: string): string => join(directory, name);
  const adminToken = randomBytes(16).toString("hex");
  const systemTokens = {
    "kube-controller-manager": randomBytes(16).toString("hex"),
    "kube-scheduler": randomBytes(16).toString("hex"),
  };
  writeFileSync(
    file("tokens.csv"),
    [
      `${adminToken},admin,admin,"system:masters"`,
      ...Object.entries(systemTokens).map(
        ([name, token]) => `${token},system:${name},${name},"system:${name}"`,
      ),
      "",
    ].join("\n"),
    { mode: 0o600 },
  );
  await start("etcd", [
    `--data-dir=${file("etcd")}`,
    `--listen-client-urls=http://127.0.0.1:${client}`,
    `--advertise-client-urls=http://127.0.0.1:${client}`,
    `--listen-peer-urls=http://127.0.0.1:${peer}`,
    `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
    `--initial-cluster=default=http://127.0.0.1:${peer}`,
    "--unsafe-no-fsync",
    "--log-level=warn",
  ]);
  const auditLogPath = file("audit.log");
  if (options.auditLog === true) {
    writeFileSync(
      file("audit-policy.json"),
      JSON.stringify({
        apiVersion: "audit.k8s.io/v1",
        kind: "Policy",
        omitStages: ["RequestReceived"],
        rules: [{ level: "RequestResponse" }],
      }),
    );
  }
  const server = `https://127.0.0.1:${secure}`;
  await start("kube-apiserver", [
    `--etcd-servers=http://127.0.0.1:${client}`,
    `--bind-address=${options.advertiseAddress === undefined ? "127.0.0.1" : "0.0.0.0"}`,
    `--secure-port=${secure}`,
    `--tls-cert-file=${file("server.crt")}`,
    `--tls-private-key-file=${file("server.key")}`,
    `--client-ca-file=${caFile}`,
    `--kubelet-client-certificate=${file("kubelet-client.crt")}`,
    `--kubelet-client-key=${file("kubelet-client.key")}`,
    `--token-auth-file=${file("tokens.csv")}`,
    `--service-account-key-file=${file("service-account.key")}`,
    `--service-account-signing-key-file=${file("service-account.key")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    "--authorization-mode=Node,RBAC",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--allow-privileged=true",
    "--kubelet-preferred-address-types=InternalIP",
    ...(options.advertiseAddress === undefined
      ? ["--endpoint-reconciler-type=none"]
      : [`--advertise-address=${options.advertiseAddress}`]),
    ...(options.auditLog === true
      ? [
          `--audit-policy-file=${file("audit-policy.json")}`,
          `--audit-log-path=${auditLogPath}`,
          "--audit-log-mode=blocking",
        ]
      : []),
  ]);
  const kubeconfigFor: ControlPlane["kubeconfigFor"] = (changes) => {
    const path = file(`kubeconfig-${randomBytes(6).toString("hex")}`);
    const text = kubeconfigText({
      server: changes.server ?? server,
      caFile: changes.caFile ?? caFile,
      token: changes.token ?? adminToken,
      ...(changes.namespace === undefined ? {} : { namespace: changes.namespace }),
    });
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const kubeconfig = file("kubeconfig");
  writeFileSync(kubeconfig, kubeconfigText({ server, caFile, token: adminToken }), { mode: 0o600 });
  const dispatcher = new Agent({ allowH2: false, connect: { ca: readFileSync(caFile) } });
  const get = async (path: string): Promise<boolean> => {
    try {
      const { statusCode, body } = await request(`${server}${path}`, {
        dispatcher,
        headers: { authorization: `Bearer ${adminToken}` },
      });
      await body.dump();
      return statusCode === 200;
    } catch {
      return false;
    }
  };
  await ready("the API server", async () => get("/readyz"));
  const leaderless = "--leader-elect=false";
  // By default the controllers, forty of which begin with an account and a token each, ask 20 times per second, which makes five seconds
  // of every start, and the scheduler 50 times.
  const unlimited = ["--kube-api-qps=500", "--kube-api-burst=500"];
  if (options.controllers !== false) {
    await start("kube-controller-manager", [
      `--kubeconfig=${kubeconfigFor({ token: systemTokens["kube-controller-manager"] })}`,
      `--service-account-private-key-file=${file("service-account.key")}`,
      `--root-ca-file=${caFile}`,
      "--use-service-account-credentials=true",
      "--secure-port=0",
      ...unlimited,
      "--node-monitor-grace-period=20s",
      leaderless,
    ]);
    await ready("the default service account", async () =>
      get("/api/v1/namespaces/default/serviceaccounts/default"),
    );
  }
  if (options.scheduler !== false) {
    await start("kube-scheduler", [
      `--kubeconfig=${kubeconfigFor({ token: systemTokens["kube-scheduler"] })}`,
      "--secure-port=0",
      ...unlimited,
      leaderless,
    ]);
  }
  await dispatcher.close();
  const tools = await ensureKubernetesTools();
  const tool =
    (path: string): ControlPlane["kubectl"] =>
    (args, toolOptions = {}) =>
      runCommand(path, args, {
        ...toolOptions,
        env: {
          KUBECONFIG: toolOptions.kubeconfig ?? kubeconfig,
          ...toolHomes(directory),
          ...toolOptions.env,
        },
      });
  return {
    server,
    kubeconfig,
    caFile,
    adminToken,
    directory,
    ...(options.auditLog === true ? { auditLogPath } : {}),
    processes: servers.map(({ name, server: { child } }) => ({ name, pid: child.pid ?? 0 })),
    kubectl: tool(tools.kubectl),
    helm: tool(tools.helm),
    kubeconfigFor,
    stop: async () => stopAll(directory, servers),
  };
}

/** kubectl and Helm write caches only below the control plane's own folder. */
function toolHomes(directory: string): Record<string, string> {
  const home = join(directory, "helm");
  if (!existsSync(home)) mkdirSync(home);
  return {
    KUBECACHEDIR: join(home, "kube"),
    HELM_CACHE_HOME: join(home, "cache"),
    HELM_CONFIG_HOME: join(home, "config"),
    HELM_DATA_HOME: join(home, "data"),
  };
}

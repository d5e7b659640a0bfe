// A real node on this machine: containerd, kubelet, kube-proxy and a bridge for pods. One at a time; root, Linux.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { componentPath } from "./binary.ts";
import { isAlive, startTicks, takeLock } from "./cache.ts";
import { allowPlainHTTP, containerdConfiguration, ensureContainerd } from "./containerd.ts";
import { freePort, startControlPlane, type ControlPlane } from "./control-plane.ts";
import {
  cgroupRoots,
  hostPaths,
  nodeRecordFile,
  removeNodeLeftovers,
  cgroupName,
  type NodeRecord,
} from "./node-cleanup.ts";
import { attachNamespace, makeNetwork, network, type AttachedNamespace } from "./node-network.ts";
import { ensurePackages, nodeSuitesUnavailable } from "./packages.ts";
import { ensurePauseImage } from "./pause-image.ts";
import { runCommand, startServer, waitFor, type Server } from "./run-command.ts";

/** A control plane with one real node. */
export type Cluster = ControlPlane & {
  readonly node: {
    readonly name: string;
    readonly address: string;
    /** Address of the pods' bridge. */
    readonly podGateway: string;
    /** Makes an OCI archive's images known to the node. */
    loadImage(archivePath: string): Promise<void>;
    /** Lets the node pull images from a registry without TLS: `host:port`. */
    allowPlainHTTP(host: string): void;
    /** Names of the images that the node has. */
    imageNames(): Promise<readonly string[]>;
    /** A network namespace of ours on the pods' bridge. */
    attachNamespace(name: string): Promise<AttachedNamespace>;
    /** Removed with the node. */
    readonly directory: string;
    /** Ends of the logs of containerd, kubelet and kube-proxy. */
    logs(): string;
  };
};

export type ClusterOptions = {
  /** Processes go on after this one ends. */
  readonly detached?: boolean;
  /** Takes a standing cluster (`make cluster-up`) down first, instead of refusing. */
  readonly replaceStanding?: boolean;
  readonly auditLog?: boolean;
  readonly nodeLabels?: Readonly<Record<string, string>>;
};

const nodeName = "node-a";

function cniConfiguration(directory: string): object {
  return {
    cniVersion: "0.4.0",
    name: "pods",
    plugins: [
      {
        type: "bridge",
        bridge: network.bridge,
        isGateway: true,
        hairpinMode: true,
        ipam: {
          type: "host-local",
          dataDir: `${directory}/ipam`,
          ranges: [
            [
              {
                subnet: network.podSubnet,
                rangeStart: network.podRange.start,
                rangeEnd: network.podRange.end,
                gateway: network.podGateway,
              },
            ],
          ],
          routes: [{ dst: "0.0.0.0/0" }],
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}

function kubeletConfiguration(directory: string, caFile: string): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: network.nodeAddress,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: caFile },
    },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cgroupName}`,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    containerRuntimeEndpoint: `unix://${directory}/containerd.sock`,
    podLogsDir: `${directory}/pod-logs`,
    readOnlyPort: 0,
    healthzPort: 0,
    port: 10250,
    // A disk that is rather full elsewhere must not taint the node.
    evictionHard: {
      "memory.available": "50Mi",
      "nodefs.available": "1%",
      "nodefs.inodesFree": "1%",
      "imagefs.available": "1%",
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    syncFrequency: "2s",
    nodeStatusUpdateFrequency: "2s",
    nodeStatusReportFrequency: "10s",
    shutdownGracePeriod: "0s",
    seccompDefault: true,
  };
}

/** Whether a cluster was left up on purpose and still is. */
export function isStanding(): boolean {
  if (!existsSync(nodeRecordFile)) return false;
  const { standing } = JSON.parse(readFileSync(nodeRecordFile, "utf8")) as NodeRecord;
  return standing !== undefined && isAlive(standing);
}

/** Our cgroup in every hierarchy; cpuset ones must be filled before a process may enter. */
function makeCgroups(): void {
  for (const path of cgroupRoots()) {
    mkdirSync(path, { recursive: true });
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const parent = join(dirname(path), file);
      if (!existsSync(join(path, file)) || !existsSync(parent)) continue;
      const value = readFileSync(parent, "utf8").trim();
      if (value !== "") writeFileSync(join(path, file), value);
    }
  }
}

/**
 * Starts a control plane and one node (Ready in about 10 s once everything is built). Waits for another node of this machine
 * to be stopped; what a killed run left is removed first.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const obstacle = nodeSuitesUnavailable();
  if (obstacle !== undefined) throw new Error(`a real node cannot run here: ${obstacle}`);
  await ensurePackages(
    ["runc", "containernetworking-plugins", "iptables", "iproute2", "busybox-static", "conntrack", "openssl"],
    ["runc", "/usr/lib/cni/bridge", "iptables", "ip", "/bin/busybox", "conntrack", "openssl"],
  );
  const pauseImage = await ensurePauseImage();
  const programs = await ensureContainerd();
  await componentPath("kubelet");
  const release = await takeLock("node");
  const servers: Server[] = [];
  let plane: ControlPlane | undefined;
  const stop = async (): Promise<void> => {
    for (const server of servers.toReversed()) await server.stop("SIGKILL");
    await plane?.stop();
    await removeNodeLeftovers();
    release();
  };
  if (options.replaceStanding !== true && isStanding()) {
    release();
    throw new Error("a cluster is up on this machine; take it down first: make cluster-down");
  }
  try {
    await removeNodeLeftovers();
    const directory = mkdtempSync(join(tmpdir(), "ocimodel-node-"));
    const record: NodeRecord = { directory, newHostPaths: hostPaths.filter((path) => !existsSync(path)) };
    writeFileSync(nodeRecordFile, JSON.stringify(record));
    const { ipForward } = await makeNetwork();
    writeFileSync(nodeRecordFile, JSON.stringify({ ...record, ipForward }));
    makeCgroups();
    plane = await startControlPlane({
      advertiseAddress: network.nodeAddress,
      ...(options.auditLog === undefined ? {} : { auditLog: options.auditLog }),
      ...(options.detached === true ? { detached: true, directory: join(directory, "control-plane") } : {}),
    });
    const node = await bootNode({ directory, plane, options, servers, pauseImage, programs });
    if (options.detached === true) {
      const pid = servers.find(({ logFile }) => logFile.endsWith("kubelet.log"))?.child.pid ?? 0;
      writeFileSync(
        nodeRecordFile,
        JSON.stringify({ ...record, ipForward, standing: { pid, startTicks: startTicks(pid) } }),
      );
    }
    return { ...plane, node, stop };
  } catch (error) {
    const logs = servers.map((server) => `--- ${server.logFile}\n${server.log()}`).join("\n");
    await stop();
    throw new Error(`the node did not start\n${logs}`, { cause: error });
  }
}

async function bootNode(input: {
  readonly directory: string;
  readonly plane: ControlPlane;
  readonly options: ClusterOptions;
  /** Gets what is started. */
  readonly servers: Server[];
  readonly pauseImage: string;
  /** Folder with the programs of containerd. */
  readonly programs: string;
}): Promise<Cluster["node"]> {
  const { directory, plane, options, servers, pauseImage, programs } = input;
  const file = (name: string): string => join(directory, name);
  const detached = options.detached === true ? { detached: true } : {};
  const start = (name: string, command: string, args: readonly string[], env = {}): void => {
    servers.push(
      startServer(command, args, { logFile: file(`${name}.log`), cwd: directory, env, ...detached }),
    );
  };
  const describe = (): string => servers.map((server) => `--- ${server.logFile}\n${server.log()}`).join("\n");
  mkdirSync(file("cni"));
  writeFileSync(file("cni/10-pods.conflist"), JSON.stringify(cniConfiguration(directory)));
  writeFileSync(file("containerd.toml"), containerdConfiguration(directory));
  // Its shim is found by PATH: the one beside it, and not that of a package of the machine.
  start("containerd", join(programs, "containerd"), ["--config", file("containerd.toml")], {
    PATH: `${programs}:${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/bin:/bin`,
  });
  const ctr = async (args: readonly string[], allowFailure = false): ReturnType<typeof runCommand> =>
    runCommand(
      join(programs, "ctr"),
      ["--address", file("containerd.sock"), "--namespace", "k8s.io", ...args],
      {
        allowFailure,
      },
    );
  await waitFor("containerd", async () => (await ctr(["version"], true)).exitCode === 0, { describe });
  const loadImage = async (archivePath: string): Promise<void> => {
    const imported = await ctr(["images", "import", archivePath], true);
    if (imported.exitCode === 0) return;
    // Importing another image under a name just replaced may meet containerd's collector removing the old one's layers.
    await ctr(["images", "import", archivePath]);
  };
  await loadImage(pauseImage);
  writeFileSync(file("kubelet.json"), JSON.stringify(kubeletConfiguration(directory, plane.caFile)));
  const labels = Object.entries(options.nodeLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  start("kubelet", await componentPath("kubelet"), [
    `--config=${file("kubelet.json")}`,
    `--kubeconfig=${plane.kubeconfig}`,
    `--root-dir=${file("kubelet")}`,
    `--cert-dir=${file("kubelet-pki")}`,
    `--hostname-override=${nodeName}`,
    `--node-ip=${network.nodeAddress}`,
    ...(labels.length === 0 ? [] : [`--node-labels=${labels.join(",")}`]),
  ]);
  start("kube-proxy", await componentPath("kube-proxy"), [
    `--kubeconfig=${plane.kubeconfig}`,
    `--hostname-override=${nodeName}`,
    "--proxy-mode=iptables",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
    `--cluster-cidr=${network.podSubnet}`,
    `--healthz-bind-address=127.0.0.1:${await freePort()}`,
    `--metrics-bind-address=127.0.0.1:${await freePort()}`,
  ]);
  await waitFor(
    "the node to be ready",
    async () => {
      const { stdout } = await plane.kubectl(
        ["get", "node", nodeName, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'],
        { allowFailure: true },
      );
      return stdout === "True";
    },
    { timeoutMs: 90_000, intervalMs: 200, describe },
  );
  return {
    name: nodeName,
    address: network.nodeAddress,
    podGateway: network.podGateway,
    loadImage,
    allowPlainHTTP: (host) => {
      allowPlainHTTP(directory, host);
    },
    imageNames: async () => (await ctr(["images", "list", "--quiet"])).stdout.split("\n").filter(Boolean),
    attachNamespace,
    logs: describe,
    directory,
  };
}

// Starts the programs of one real node: containerd and kubelet, with all that is theirs below one folder. Several nodes of one machine
// share its network, and have a cgroup and, by a mount namespace, a disk of their own.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { componentPath } from "./binary.ts";
import { allowPlainHTTP, containerdConfiguration } from "./containerd.ts";
import { freePort, type ControlPlane } from "./control-plane.ts";
import { cgroupRoots } from "./node-cleanup.ts";
import { attachNamespace, network, type AttachedNamespace } from "./node-network.ts";
import { runCommand, startServer, waitFor, type Server } from "./run-command.ts";

export type ClusterNode = {
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
  /** The same path on every node, and a directory of its own on each: by what pods and volumes name it. */
  readonly disk: string;
  /** That of this node, as it is seen from here. */
  readonly diskHere: string;
  /** Ends of the logs of containerd, kubelet and kube-proxy. */
  logs(): string;
};

export type NodeParts = {
  readonly name: string;
  readonly address: string;
  readonly cgroup: string;
  /** Made by the caller. */
  readonly directory: string;
  /** Where the addresses of pods are noted. */
  readonly addressesDirectory: string;
  readonly disk: string;
  /** One kube-proxy does for all nodes of a machine: they share its packet filter. */
  readonly servesServices: boolean;
  /** Paths at which this node sees a folder of its own, in a mount namespace of its own: none for the first. */
  readonly ownPaths: readonly { readonly path: string; readonly folder: string }[];
};

/** Nodes of one machine share the pods' bridge, and so who has which address. */
function cniConfiguration(addressesDirectory: string): object {
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
          dataDir: addressesDirectory,
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

function kubeletConfiguration({ directory, address, cgroup }: NodeParts, caFile: string): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: caFile },
    },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${cgroup}`,
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

/** Our cgroup in every hierarchy; cpuset ones must be filled before a process may enter. */
export function makeCgroups(): void {
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

/** What begins the command line of a program that is to see folders of its own. */
function apart(ownPaths: NodeParts["ownPaths"]): readonly string[] {
  if (ownPaths.length === 0) return [];
  const mounts = ownPaths.map(({ path, folder }) => `mount --bind '${folder}' '${path}' && `).join("");
  return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", `${mounts}exec "$@"`, "sh"];
}

export async function bootNode(input: {
  readonly parts: NodeParts;
  readonly plane: ControlPlane;
  readonly detached: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** Gets what is started. */
  readonly servers: Server[];
  readonly pauseImage: string;
  /** Folder with the programs of containerd. */
  readonly programs: string;
}): Promise<ClusterNode> {
  const { parts, plane, servers, pauseImage, programs } = input;
  const { name: nodeName, directory, address } = parts;
  const file = (name: string): string => join(directory, name);
  const detached = input.detached ? { detached: true } : {};
  const start = (name: string, line: readonly string[], env = {}): Server => {
    const [command = "", ...args] = line;
    const server = startServer(command, args, {
      logFile: file(`${name}.log`),
      cwd: directory,
      env,
      ...detached,
    });
    servers.push(server);
    return server;
  };
  const describe = (): string => servers.map((server) => `--- ${server.logFile}\n${server.log()}`).join("\n");
  mkdirSync(file("cni"), { recursive: true });
  mkdirSync(file("disk"));
  writeFileSync(file("cni/10-pods.conflist"), JSON.stringify(cniConfiguration(parts.addressesDirectory)));
  writeFileSync(file("containerd.toml"), containerdConfiguration(directory));
  // Its shim is found by PATH: the one beside it, and not that of a package of the machine.
  const containerd = start(
    "containerd",
    [...apart(parts.ownPaths), join(programs, "containerd"), "--config", file("containerd.toml")],
    { PATH: `${programs}:${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/bin:/bin` },
  );
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
  writeFileSync(file("kubelet.json"), JSON.stringify(kubeletConfiguration(parts, plane.caFile)));
  const labels = Object.entries(input.labels).map(([key, value]) => `${key}=${value}`);
  start("kubelet", [
    ...(parts.ownPaths.length === 0 ? [] : ["nsenter", `--mount=/proc/${containerd.child.pid}/ns/mnt`, "--"]),
    await componentPath("kubelet"),
    `--config=${file("kubelet.json")}`,
    `--kubeconfig=${plane.kubeconfig}`,
    `--root-dir=${file("kubelet")}`,
    `--cert-dir=${file("kubelet-pki")}`,
    `--hostname-override=${nodeName}`,
    `--node-ip=${address}`,
    ...(labels.length === 0 ? [] : [`--node-labels=${labels.join(",")}`]),
  ]);
  if (parts.servesServices) {
    start("kube-proxy", [
      await componentPath("kube-proxy"),
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
  }
  await waitFor(
    `${nodeName} to be ready`,
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
    address,
    podGateway: network.podGateway,
    loadImage,
    allowPlainHTTP: (host) => {
      allowPlainHTTP(directory, host);
    },
    imageNames: async () => (await ctr(["images", "list", "--quiet"])).stdout.split("\n").filter(Boolean),
    attachNamespace,
    logs: describe,
    directory,
    disk: parts.disk,
    diskHere: file("disk"),
  };
}

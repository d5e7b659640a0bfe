// A real node on this machine: containerd, kubelet, kube-proxy and a bridge for pods. One at a time; root, Linux.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { componentPath } from "./binary.ts";
import { isAlive, startTicks, takeLock } from "./cache.ts";
import { ensureContainerd } from "./containerd.ts";
import { startControlPlane, type ControlPlane } from "./control-plane.ts";
import { bootNode, makeCgroups, type ClusterNode } from "./node-boot.ts";
import {
  cgroupNames,
  hostPaths,
  nodeRecordFile,
  removeNodeLeftovers,
  type NodeRecord,
} from "./node-cleanup.ts";
import { makeNetwork, network } from "./node-network.ts";
import { ensurePackages, nodeSuitesUnavailable } from "./packages.ts";
import { ensurePauseImage } from "./pause-image.ts";
import type { Server } from "./run-command.ts";

/** A control plane with one real node or two. */
export type Cluster = ControlPlane & {
  readonly node: ClusterNode;
  /** With `secondNode`. */
  readonly secondNode?: ClusterNode;
};

export type ClusterOptions = {
  /** Processes go on after this one ends. */
  readonly detached?: boolean;
  /** Takes a standing cluster (`make cluster-up`) down first, instead of refusing. */
  readonly replaceStanding?: boolean;
  readonly auditLog?: boolean;
  readonly nodeLabels?: Readonly<Record<string, string>>;
  /** Two nodes, each with a kubelet, a containerd and a disk of its own. Not with `detached`. */
  readonly secondNode?: boolean;
};

const deviceSockets = "/var/lib/kubelet";

/** Whether a cluster was left up on purpose and still is. */
export function isStanding(): boolean {
  if (!existsSync(nodeRecordFile)) return false;
  const { standing } = JSON.parse(readFileSync(nodeRecordFile, "utf8")) as NodeRecord;
  return standing !== undefined && isAlive(standing);
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
    const shared = { plane, servers, pauseImage, programs, detached: options.detached === true };
    const disk = join(directory, "disk");
    const addressesDirectory = join(directory, "ipam");
    const node = await bootNode({
      ...shared,
      labels: options.nodeLabels ?? {},
      parts: {
        name: "node-a",
        address: network.nodeAddress,
        cgroup: cgroupNames[0],
        directory,
        addressesDirectory,
        disk,
        servesServices: true,
        ownPaths: [],
      },
    });
    const secondNode =
      options.secondNode === true ? await bootSecondNode(shared, node, addressesDirectory) : undefined;
    if (options.detached === true) {
      const pid = servers.find(({ logFile }) => logFile.endsWith("kubelet.log"))?.child.pid ?? 0;
      writeFileSync(
        nodeRecordFile,
        JSON.stringify({ ...record, ipForward, standing: { pid, startTicks: startTicks(pid) } }),
      );
    }
    return { ...plane, node, ...(secondNode === undefined ? {} : { secondNode }), stop };
  } catch (error) {
    const logs = servers.map((server) => `--- ${server.logFile}\n${server.log()}`).join("\n");
    await stop();
    throw new Error(`the node did not start\n${logs}`, { cause: error });
  }
}

async function bootSecondNode(
  shared: Omit<Parameters<typeof bootNode>[0], "parts" | "labels">,
  first: ClusterNode,
  addressesDirectory: string,
): Promise<ClusterNode> {
  const directory = join(first.directory, "second");
  const sockets = join(directory, "sockets");
  mkdirSync(sockets, { recursive: true });
  mkdirSync(deviceSockets, { recursive: true });
  return bootNode({
    ...shared,
    labels: {},
    parts: {
      name: "node-b",
      address: network.secondAddress,
      cgroup: cgroupNames[1],
      directory,
      addressesDirectory,
      disk: first.disk,
      servesServices: false,
      ownPaths: [
        { path: first.disk, folder: join(directory, "disk") },
        { path: deviceSockets, folder: sockets },
      ],
    },
  });
}

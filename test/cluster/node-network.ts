// The node's network: an address that is not loopback, the pods' bridge, and namespaces of ours on it. Root, Linux.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { runCommand } from "./run-command.ts";

/** All names and addresses of the real nodes; made and removed together. */
export const network = {
  nodeLink: "ocimodel-node",
  nodePeer: "ocimodel-peer",
  nodeAddress: "10.244.254.1",
  /** Of a second node. */
  secondAddress: "10.244.254.2",
  bridge: "ocimodel-pods",
  podGateway: "10.244.0.1",
  podSubnet: "10.244.0.0/24",
  podRange: { start: "10.244.0.20", end: "10.244.0.250" },
  namespacePrefix: "ocimodel-",
} as const;

const forwarding = "/proc/sys/net/ipv4/ip_forward";

async function ip(...args: readonly string[]): Promise<void> {
  await runCommand("ip", args);
}

/** Makes the node's address and the bridge; returns what must be put back. */
export async function makeNetwork(): Promise<{ readonly ipForward: string }> {
  const ipForward = readFileSync(forwarding, "utf8").trim();
  writeFileSync(forwarding, "1");
  await ip("link", "add", network.nodeLink, "type", "veth", "peer", "name", network.nodePeer);
  for (const address of [network.nodeAddress, network.secondAddress])
    await ip("address", "add", `${address}/32`, "dev", network.nodeLink);
  await ip("link", "set", network.nodeLink, "up");
  await ip("link", "set", network.nodePeer, "up");
  await ip("link", "add", network.bridge, "type", "bridge");
  await ip("address", "add", `${network.podGateway}/24`, "dev", network.bridge);
  await ip("link", "set", network.bridge, "up");
  return { ipForward };
}

export type AttachedNamespace = {
  readonly name: string;
  readonly address: string;
  /** Put before a command to run it inside. */
  readonly execPrefix: readonly string[];
};

let attached = 0;

/** A network namespace with an address on the pods' bridge, e.g. for a registry that pods reach. */
export async function attachNamespace(name: string): Promise<AttachedNamespace> {
  attached += 1;
  const full = `${network.namespacePrefix}${name}`;
  const address = `10.244.0.${1 + attached}`;
  const link = `ocm-${attached}`;
  await ip("netns", "add", full);
  await ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", full);
  await ip("link", "set", link, "master", network.bridge, "up");
  await ip("-n", full, "address", "add", `${address}/24`, "dev", "eth0");
  await ip("-n", full, "link", "set", "eth0", "up");
  await ip("-n", full, "link", "set", "lo", "up");
  await ip("-n", full, "route", "add", "default", "via", network.podGateway);
  return { name: full, address, execPrefix: ["ip", "netns", "exec", full] };
}

async function killNamespaceProcesses(name: string): Promise<void> {
  const { stdout } = await runCommand("ip", ["netns", "pids", name], { allowFailure: true });
  for (const pid of stdout.split("\n").filter((each) => each !== "")) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
}

/** Removes namespaces, links and packet filter chains, as far as they are there. */
export async function removeNetwork(ipForward: string | undefined): Promise<void> {
  const { stdout: namespaces } = await runCommand("ip", ["netns", "list"], { allowFailure: true });
  for (const line of namespaces.split("\n")) {
    const name = line.split(" ")[0] ?? "";
    if (!name.startsWith(network.namespacePrefix)) continue;
    await killNamespaceProcesses(name);
    await runCommand("ip", ["netns", "delete", name], { allowFailure: true });
  }
  for (const link of [network.nodeLink, network.bridge]) {
    await runCommand("ip", ["link", "delete", link], { allowFailure: true });
  }
  for (const family of ["iptables", "ip6tables"]) {
    const saved = await runCommand(`${family}-save`, [], { allowFailure: true });
    if (saved.exitCode !== 0 || !saved.stdout.includes("KUBE-")) continue;
    const kept = saved.stdout
      .split("\n")
      .filter((line) => !line.includes("KUBE-"))
      .join("\n");
    await runCommand(`${family}-restore`, [], { input: kept, allowFailure: true });
  }
  if (ipForward !== undefined && existsSync(forwarding)) writeFileSync(forwarding, ipForward);
}

// Where a URL may lead: one policy for registries, token servers, redirects and mirrors. Pure; the transport asks it for
// every URL and for every address that a name resolves to.

import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";
import { AppError } from "./errors.ts";

/** Whom a URL is followed for. */
export type EgressContext = {
  /** Origin of the registry (or mirror) that the user named. */
  readonly registry: URL;
  /** `host` or `host:port` of further targets that the user trusts, also on private addresses. */
  readonly trustedHosts: ReadonlySet<string>;
};

/** What the policy says of a URL. `anyAddress`: the user named this target, so its address is not judged. */
export type EgressDecision = { readonly url: URL; readonly anyAddress: boolean };

// One list for each family: a list of both takes every IPv4 address for its IPv6 form.
const notPublic = { ipv4: new BlockList(), ipv6: new BlockList() };
for (const [network, prefix] of [
  ["0.0.0.0", 8], // "this network", unspecified
  ["10.0.0.0", 8], // private
  ["100.64.0.0", 10], // carrier-grade NAT
  ["127.0.0.0", 8], // loopback
  ["169.254.0.0", 16], // link-local, cloud metadata
  ["168.63.129.16", 32], // Azure's services for a machine: metadata, certificates
  ["172.16.0.0", 12], // private
  ["192.0.0.0", 24], // protocol assignments
  ["192.0.2.0", 24], // documentation
  ["192.88.99.0", 24], // 6to4 relays
  ["192.168.0.0", 16], // private
  ["198.18.0.0", 15], // benchmarks
  ["198.51.100.0", 24], // documentation
  ["203.0.113.0", 24], // documentation
  ["224.0.0.0", 4], // multicast
  ["240.0.0.0", 4], // reserved, broadcast
] as const) {
  notPublic.ipv4.addSubnet(network, prefix, "ipv4");
}
for (const [network, prefix] of [
  // Of IPv6, only 2000::/3 is given out: the rest is unspecified, loopback, local, translated, multicast or nobody's.
  ["::", 3],
  ["4000::", 2],
  ["8000::", 1],
  ["2001::", 23], // protocol assignments, Teredo among them
  ["2001:db8::", 32], // documentation
  ["2002::", 16], // 6to4
  ["3fff::", 20], // documentation
] as const) {
  notPublic.ipv6.addSubnet(network, prefix, "ipv6");
}

/** Bytes of an IPv6 address without zone; the text is valid. */
function ipv6Groups(address: string): readonly number[] {
  // WHATWG URL writes the canonical form, an embedded IPv4 address as two groups.
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = "", tail] = canonical.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<string>(zeros).fill("0"), ...right].map((group) => Number.parseInt(group, 16));
}

/**
 * Whether an address is one of the public Internet. IPv4 addresses inside IPv6 ones (v4-mapped `::ffff:0:0/96`, NAT64
 * `64:ff9b::/96`) are judged as what they are.
 */
export function isPublicAddress(address: string): boolean {
  const bare = address.split("%")[0] ?? address;
  if (isIPv4(bare)) return !notPublic.ipv4.check(bare, "ipv4");
  if (!isIPv6(bare)) return false;
  const groups = ipv6Groups(bare);
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groups;
  const embedded = `${g >> 8}.${g & 255}.${h >> 8}.${h & 255}`;
  if (a === 0 && b === 0 && c === 0 && d === 0 && e === 0 && f === 0xffff) return isPublicAddress(embedded);
  if (a === 0x64 && b === 0xff9b && c === 0 && d === 0 && e === 0 && f === 0)
    return isPublicAddress(embedded);
  return !notPublic.ipv6.check(bare, "ipv6");
}

/** Host with port as `trustedHosts` names it, without a trailing dot. */
function hostNames(url: URL): readonly string[] {
  const hostname = url.hostname.toLowerCase().replace(/\.$/, "");
  return [hostname, `${hostname}:${effectivePort(url)}`];
}

export function effectivePort(url: URL): string {
  return url.port === "" ? (url.protocol === "http:" ? "80" : "443") : url.port;
}

/** Same scheme, host and port: the unit to which credentials belong. */
export function isSameOrigin(one: URL, other: URL): boolean {
  return (
    one.protocol === other.protocol &&
    one.hostname.replace(/\.$/, "") === other.hostname.replace(/\.$/, "") &&
    effectivePort(one) === effectivePort(other)
  );
}

/**
 * Judges a URL that came from a server (token realm, redirect, next page) or is the registry's own. Allowed are the registry's
 * own origin; its host and port; trusted hosts; else `https` to a public address. Plain `http` is allowed only where the registry
 * itself is asked by it. Fails with PolicyRefused; messages name the host, never path or query.
 */
export function judgeUrl(target: string | URL, base: URL, context: EgressContext): EgressDecision {
  let url: URL;
  try {
    url = new URL(target, base);
  } catch {
    throw new AppError("PolicyRefused", `${context.registry.host} named a URL that is none`);
  }
  const refuse = (why: string): AppError =>
    new AppError(
      "PolicyRefused",
      `${context.registry.host} leads to ${JSON.stringify(url.host.slice(0, 120))}, which is refused: ${why}`,
      { context: { host: url.host } },
    );
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw refuse(`scheme ${url.protocol.slice(0, 20)}`);
  if (url.username !== "" || url.password !== "") throw refuse("the URL holds a user name");
  if (isSameOrigin(url, context.registry)) return { url, anyAddress: true };
  if (url.protocol === "http:" && context.registry.protocol !== "http:") {
    throw refuse("plain http from a registry that is asked by https");
  }
  const isTrusted = hostNames(url).some((name) => context.trustedHosts.has(name));
  if (isTrusted) return { url, anyAddress: true };
  const isRegistryHost =
    url.hostname === context.registry.hostname && effectivePort(url) === effectivePort(context.registry);
  if (isRegistryHost) return { url, anyAddress: true };
  if (url.protocol === "http:") {
    throw refuse(`plain http to another host; if it is meant, name it with --trusted-host ${url.host}`);
  }
  const literal = url.hostname.replace(/^\[|\]$/g, "");
  if (isIP(literal) !== 0 && !isPublicAddress(literal)) {
    throw refuse(`the address is not public; if it is meant, name it with --trusted-host ${url.host}`);
  }
  const name = url.hostname.toLowerCase().replace(/\.$/, "");
  if (name === "localhost" || name.endsWith(".localhost")) {
    throw refuse(`the address is not public; if it is meant, name it with --trusted-host ${url.host}`);
  }
  return { url, anyAddress: false };
}

/** Judges an address that a name resolved to, before it is dialled. Fails with PolicyRefused. */
export function judgeAddress(host: string, address: string): void {
  if (isPublicAddress(address)) return;
  throw new AppError(
    "PolicyRefused",
    `${JSON.stringify(host.slice(0, 120))} resolves to an address that is not public; if it is meant, name it with --trusted-host ${host.slice(0, 120)}`,
    { context: { host } },
  );
}

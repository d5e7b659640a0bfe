// Hosts as users write them (references, flags, docker configs) in the one form in which they are compared. Pure.

/** All names of Docker Hub's registry. */
const dockerHubNames: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

const pattern = /^(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(\d{1,5}))?$/;

/**
 * `host[:port]` in lower case, an IP address in its canonical spelling, the port as it was given. Undefined for what is
 * something else: with a scheme, path, user name, wildcard, impossible port or a number that is no address.
 */
export function canonicalHost(text: string): string | undefined {
  const match = pattern.exec(text.toLowerCase());
  if (match === null) return undefined;
  const [, host = "", port] = match;
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) return undefined;
  // Registries are asked by URL: what a URL takes for another host must not pass as this one (0x7f.1 is 127.0.0.1).
  if (!URL.canParse(`http://${host}/`)) return undefined;
  const { hostname } = new URL(`http://${host}/`);
  return port === undefined ? hostname : `${hostname}:${Number(port)}`;
}

/** As `canonicalHost`, with all names of Docker Hub as `docker.io`. */
export function canonicalRegistry(text: string): string | undefined {
  const host = canonicalHost(text);
  return host !== undefined && dockerHubNames.has(host) ? "docker.io" : host;
}

// Where a registry is asked: at mirrors in their order, then itself, by https unless it is named for plain http.

import type { EgressContext } from "./egress.ts";
import { AppError } from "./errors.ts";
import { canonicalHost, canonicalRegistry } from "./host.ts";
import { shownReference } from "./reference.ts";
import type { Reference } from "./types.ts";

export type EndpointOptions = {
  /** `host[:port]` of registries that are asked by plain http. No other host ever is. */
  readonly plainHTTPHosts?: readonly string[];
  /** Tried in order before the registry itself. */
  readonly mirrors?: readonly { readonly host: string; readonly url: string }[];
  /** Token servers and redirect targets that are allowed although they are not public. */
  readonly trustedHosts?: readonly string[];
};

/** Where a repository is asked for: the registry itself or one of its mirrors. */
export type Endpoint = {
  /** Ends in `/v2`. */
  readonly base: string;
  readonly context: EgressContext;
  readonly credentialHost: string;
  /** Host that a mirror is asked on behalf of. */
  readonly onBehalfOf?: string;
};

/** Docker Hub's registry has another name than its references. */
const dockerHubRegistry = "registry-1.docker.io";

export class Endpoints {
  readonly #trustedHosts: ReadonlySet<string>;
  readonly #plainHTTPHosts: ReadonlySet<string>;
  readonly #mirrors: readonly { readonly host: string; readonly url: URL }[];

  /** Fails with InvalidUsage or InvalidConfiguration for what is no host or no URL. */
  constructor({ trustedHosts = [], plainHTTPHosts = [], mirrors = [] }: EndpointOptions) {
    this.#trustedHosts = new Set(trustedHosts.map((host) => parseHost(host, "--trusted-host")));
    this.#plainHTTPHosts = new Set(plainHTTPHosts.map((host) => parseHost(host, "--plain-http")));
    this.#mirrors = mirrors.map(({ host, url }) => ({
      host: parseHost(host, "--mirror"),
      url: parseMirror(host, url),
    }));
  }

  /** The registry itself. */
  origin(reference: Reference): Endpoint {
    const host = reference.registry === "docker.io" ? dockerHubRegistry : reference.registry;
    const registry = new URL(`${this.#plainHTTPHosts.has(reference.registry) ? "http" : "https"}://${host}`);
    return {
      base: `${registry.origin}/v2`,
      context: { registry, trustedHosts: this.#trustedHosts },
      credentialHost: reference.registry,
    };
  }

  /** Mirrors in their order, then the registry itself. */
  all(reference: Reference): readonly [...Endpoint[], Endpoint] {
    const mirrors = this.#mirrors
      .filter(({ host }) => host === reference.registry)
      .map(({ url }): Endpoint => {
        const path = url.pathname.replace(/\/+$/, "");
        return {
          base: `${url.origin}${path}${path.endsWith("/v2") ? "" : "/v2"}`,
          context: { registry: new URL(url.origin), trustedHosts: this.#trustedHosts },
          credentialHost: url.host.toLowerCase(),
          onBehalfOf: reference.registry,
        };
      });
    return [...mirrors, this.origin(reference)];
  }
}

/** A path below a repository, at an endpoint. */
export function urlAt(endpoint: Endpoint, reference: Reference, rest: string): URL {
  const url = new URL(`${endpoint.base}/${reference.repository}/${rest}`);
  if (endpoint.onBehalfOf !== undefined) url.searchParams.set("ns", endpoint.onBehalfOf);
  return url;
}

/** A host that a flag names: one that could never match anything is refused, not ignored. */
function parseHost(text: string, flag: string): string {
  const host = canonicalRegistry(text);
  if (host === undefined) {
    throw new AppError(
      "InvalidUsage",
      `${flag} ${JSON.stringify(shownReference(text).slice(0, 100))} is no host; expected host or host:port, without scheme and path`,
    );
  }
  return host;
}

function parseMirror(host: string, text: string): URL {
  const full = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  const isGood =
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    canonicalHost(url.host) !== undefined &&
    url.username + url.password + url.search + url.hash === "";
  if (isGood) return url;
  // A URL with a user name in it holds a password: it is not shown.
  const shown = text.includes("@") ? "its URL" : JSON.stringify(text.slice(0, 100));
  throw new AppError(
    "InvalidConfiguration",
    `the mirror of ${host}: ${shown} is no http or https URL without user name and query; expected https://mirror.example.com/path`,
  );
}

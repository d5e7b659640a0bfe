// Which proxy a URL is asked through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as curl and Go read them. Pure.

import { BlockList, isIP } from "node:net";
import { AppError } from "./errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Proxies of an environment, checked. Built once: a NO_PROXY of Kubernetes lists networks. */
export type ProxyChoice = {
  /** The proxy for a URL; undefined: none. */
  readonly proxyFor: (url: URL) => URL | undefined;
};

function value(environment: Environment, name: string): string {
  return environment[name.toLowerCase()] ?? environment[name] ?? "";
}

function proxyUrl(environment: Environment, name: string): URL | undefined {
  const text = value(environment, name).trim();
  if (text === "") return undefined;
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  // Its value is not shown: it may hold a password.
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw new AppError(
      "InvalidConfiguration",
      `${name} is no http or https URL of a proxy; expected http://[user:password@]host:port`,
    );
  }
  return url;
}

/** The failure of a request to `host` that a proxy answered with 407. */
export function proxyWantsCredentials(host: string): AppError {
  return new AppError(
    "InvalidConfiguration",
    `the proxy before ${host} wants credentials (407); set them in HTTP_PROXY or HTTPS_PROXY as http://user:password@host:port`,
    { context: { host } },
  );
}

/** One entry of NO_PROXY as a predicate; undefined for an empty one. */
function exception(entry: string): ((hostname: string, port: string) => boolean) | undefined {
  if (entry === "") return undefined;
  const [, network = "", bits] = /^([^/]+)\/(\d{1,3})$/.exec(entry) ?? [];
  const version = isIP(network);
  if (version !== 0 && Number(bits) <= (version === 4 ? 32 : 128)) {
    const list = new BlockList();
    const family = version === 4 ? "ipv4" : "ipv6";
    list.addSubnet(network, Number(bits), family);
    return (hostname) => isIP(hostname) === version && list.check(hostname, family);
  }
  const [, host = "", wantedPort] =
    isIP(entry) === 6 ? ["", entry] : (/^(.*?)(?::(\d+))?$/.exec(entry) ?? []);
  const name = host
    .toLowerCase()
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "");
  const suffix = name.replace(/^\*?\./, "");
  const isSuffixOnly = suffix !== name;
  return (hostname, port) => {
    if (wantedPort !== undefined && wantedPort !== port) return false;
    if (name === "*") return true;
    return (!isSuffixOnly && hostname === name) || (isIP(hostname) === 0 && hostname.endsWith(`.${suffix}`));
  };
}

/**
 * Reads the three variables, in either case (the lower one first). `https` goes through HTTPS_PROXY only. NO_PROXY is a list
 * of host names (subdomains too), `.suffix`, `host:port`, IP addresses, networks (`10.0.0.0/8`) and `*`.
 * Fails with InvalidConfiguration for a proxy that is no URL.
 */
export function chooseProxies(environment: Environment): ProxyChoice {
  const http = proxyUrl(environment, "HTTP_PROXY");
  const https = proxyUrl(environment, "HTTPS_PROXY");
  const exceptions = value(environment, "NO_PROXY")
    .split(/[,\s]+/)
    .flatMap((entry) => exception(entry) ?? []);
  return {
    proxyFor: (url) => {
      const hostname = url.hostname
        .toLowerCase()
        .replace(/^\[|\]$/g, "")
        .replace(/\.$/, "");
      const port = url.port === "" ? (url.protocol === "http:" ? "80" : "443") : url.port;
      if (exceptions.some((isExcepted) => isExcepted(hostname, port))) return undefined;
      return url.protocol === "http:" ? http : https;
    },
  };
}

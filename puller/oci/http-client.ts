// The parts of undici that the puller uses, each from its own file: the package's index loads fetch, caches, mocks and web sockets
// too, which would cost every start 60 ms of processor time and 13 MiB of memory. Its version is exact, so its files are where they are.

import type { Agent as AgentClass, Dispatcher, ProxyAgent as ProxyAgentClass } from "undici";
import connectFile from "undici/lib/api/api-connect.js";
import requestFile from "undici/lib/api/api-request.js";
import agentFile from "undici/lib/dispatcher/agent.js";
import dispatcherFile from "undici/lib/dispatcher/dispatcher.js";
import proxyAgentFile from "undici/lib/dispatcher/proxy-agent.js";

// As the index does: a proxy agent opens its tunnels by it.
(dispatcherFile as typeof Dispatcher).prototype.connect = connectFile as Dispatcher["connect"];

export const Agent = agentFile as typeof AgentClass;
export const ProxyAgent = proxyAgentFile as typeof ProxyAgentClass;

const requestBy = requestFile as (
  this: Dispatcher,
  options: Dispatcher.RequestOptions,
) => Promise<Dispatcher.ResponseData>;

/** Asks for a URL by a dispatcher. */
export async function request(
  dispatcher: Dispatcher,
  url: URL,
  options: Omit<Dispatcher.RequestOptions, "origin" | "path">,
): Promise<Dispatcher.ResponseData> {
  const { origin, pathname, search } = url;
  return requestBy.call(dispatcher, { ...options, origin, path: `${pathname}${search}` });
}

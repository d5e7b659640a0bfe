// The parts of undici that the puller uses, each from its own file: the package's index loads fetch, caches, mocks and web sockets
// too, which would cost every start 60 ms of processor time and 13 MiB of memory. Its version is exact, so its files are where they are.

import { setFlagsFromString } from "node:v8";
import type { Agent as AgentClass, Dispatcher, ProxyAgent as ProxyAgentClass } from "undici";
import connectFile from "undici/lib/api/api-connect.js";
import requestFile from "undici/lib/api/api-request.js";
import agentFile from "undici/lib/dispatcher/agent.js";
import dispatcherFile from "undici/lib/dispatcher/dispatcher.js";
import proxyAgentFile from "undici/lib/dispatcher/proxy-agent.js";

// As the index does: a proxy agent opens its tunnels by it.
(dispatcherFile as typeof Dispatcher).prototype.connect = connectFile as Dispatcher["connect"];

let hasAsked = false;

/**
 * Undici compiles its parser for the first answer; V8 is not to optimise it: for the few heads of a pull that would take 8 MiB. The
 * option is V8's own value again afterwards: under another one it would take no code that was compiled before.
 */
async function withPlainParser<T>(ask: () => Promise<T>): Promise<T> {
  if (hasAsked) return ask();
  hasAsked = true;
  setFlagsFromString("--wasm-tiering-budget=2000000000");
  try {
    return await ask();
  } finally {
    setFlagsFromString("--wasm-tiering-budget=13000000");
  }
}

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
  return withPlainParser(async () =>
    requestBy.call(dispatcher, { ...options, origin, path: `${pathname}${search}` }),
  );
}

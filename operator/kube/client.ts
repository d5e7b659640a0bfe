// The API server over HTTP: raw JSON by undici, credentials by KubeConfig. Knows no Model and keeps no state of objects.

import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import { request, type Dispatcher } from "undici";
import { KubeError, kubeErrorOf } from "./errors.ts";
import type { LeaseWriter } from "./leader-election.ts";
import type { DeletePreconditions, KubeObject, ObjectKey, Resource } from "./types.ts";

export type KubeClientOptions = {
  readonly kubeConfig: KubeConfig;
  /** One name for all writes, so that two operators are one owner of each field. */
  readonly fieldManager: string;
  readonly userAgent: string;
  /** For every call but watches. */
  readonly timeoutMs?: number;
  /** Told of each answer: verb, HTTP status (0: none), milliseconds. */
  readonly onAnswer?: (verb: string, path: string, status: number, durationMs: number) => void;
};

/** An open answer of the API server, read as it comes. */
export type KubeStream = { readonly body: AsyncIterable<Uint8Array>; close(): void };

/** What ListWatch needs beyond Kube. */
export interface KubeReader {
  /** GET of a path with a query; the parsed answer. */
  read<T>(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<T>;
  /** GET whose body is streamed; no time limit but the signal. */
  stream(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<KubeStream>;
}

/** Largest answer read into memory, bytes: a page of 500 objects of the largest size etcd takes would be more, and is a defect. */
const maxBodyBytes = 256 * 1024 * 1024;

/** Token files are rotated hourly and exec plugins renew; a minute is soon enough, milliseconds. */
const credentialsLifetimeMs = 60_000;

/** Credentials as kubectl finds them: in the cluster, else KUBECONFIG, else the home folder. */
export function loadKubeConfig(): KubeConfig {
  const config = new KubeConfig();
  config.loadFromDefault();
  return config;
}

/** Path of a collection, or of one object. */
export function resourcePath(
  resource: Resource,
  namespace?: string,
  name?: string,
  subresource?: string,
): string {
  const root =
    resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const scope =
    resource.namespaced && namespace !== undefined && namespace !== ""
      ? `/namespaces/${encodeURIComponent(namespace)}`
      : "";
  const object = name === undefined ? "" : `/${encodeURIComponent(name)}`;
  return `${root}${scope}/${resource.plural}${object}${subresource === undefined ? "" : `/${subresource}`}`;
}

export class KubeClient implements LeaseWriter, KubeReader {
  readonly #options: KubeClientOptions;
  readonly #server: string;
  #known: Credentials | undefined;

  constructor(options: KubeClientOptions) {
    const cluster = options.kubeConfig.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no cluster; set KUBECONFIG or run in a pod");
    speakHttp1(options.kubeConfig);
    this.#options = options;
    this.#server = cluster.server.replace(/\/$/, "");
  }

  async get<T extends KubeObject>(
    resource: Resource,
    key: ObjectKey,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    try {
      return await this.#send<T>(
        "get",
        resourcePath(resource, key.namespace, key.name),
        { method: "GET" },
        signal,
      );
    } catch (error) {
      if (error instanceof KubeError && error.kind === "notFound") return undefined;
      throw error;
    }
  }

  async apply<T extends KubeObject>(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<T> {
    return this.#apply<T>(resource, object, undefined, signal);
  }

  async applyStatus<T extends KubeObject>(
    resource: Resource,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<T> {
    return this.#apply<T>(resource, object, "status", signal);
  }

  async create<T extends KubeObject>(
    resource: Resource,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    try {
      const path = resourcePath(resource, object.metadata.namespace);
      const query = { fieldManager: this.#options.fieldManager };
      return await this.#send<T>("create", path, { method: "POST", body: object, query }, signal);
    } catch (error) {
      if (error instanceof KubeError && error.kind === "alreadyExists") return undefined;
      throw error;
    }
  }

  /** Replaces an object in the state that its `resourceVersion` names; a conflict when it is another by now. */
  async replace<T extends KubeObject>(
    resource: Resource,
    object: KubeObject,
    signal: AbortSignal,
  ): Promise<T> {
    const path = resourcePath(resource, object.metadata.namespace, object.metadata.name);
    return this.#send<T>("update", path, { method: "PUT", body: object }, signal);
  }

  async delete(
    resource: Resource,
    key: ObjectKey,
    preconditions: DeletePreconditions,
    signal: AbortSignal,
  ): Promise<boolean> {
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      propagationPolicy: "Background",
      preconditions,
    };
    try {
      const path = resourcePath(resource, key.namespace, key.name);
      await this.#send("delete", path, { method: "DELETE", body }, signal);
      return true;
    } catch (error) {
      // A conflict says that the object of this name is another one by now.
      if (error instanceof KubeError && (error.kind === "notFound" || error.kind === "conflict"))
        return false;
      throw error;
    }
  }

  async read<T>(path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<T> {
    return this.#send<T>("list", path, { method: "GET", query }, signal);
  }

  async stream(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<KubeStream> {
    const controller = new AbortController();
    const headersLimit = setTimeout(() => {
      controller.abort(new KubeError("unavailable", "the API server did not begin to answer a watch"));
    }, this.#timeoutMs());
    try {
      const answer = await this.#open(
        "watch",
        path,
        { method: "GET", query },
        AbortSignal.any([signal, controller.signal]),
        true,
      );
      return {
        body: answer.body as AsyncIterable<Uint8Array>,
        close: () => {
          controller.abort();
        },
      };
    } finally {
      clearTimeout(headersLimit);
    }
  }

  async #apply<T extends KubeObject>(
    resource: Resource,
    object: KubeObject,
    subresource: string | undefined,
    signal: AbortSignal,
  ): Promise<T> {
    const { name, namespace } = object.metadata;
    const query = { fieldManager: this.#options.fieldManager, force: "true" };
    const path = resourcePath(resource, namespace, name, subresource);
    return this.#send<T>("apply", path, { method: "PATCH", body: object, query }, signal);
  }

  async #send<T>(verb: string, path: string, call: Call, signal: AbortSignal): Promise<T> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs())]);
    const answer = await this.#open(verb, path, call, limited, false);
    try {
      return JSON.parse(await readText(answer.body)) as T;
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof KubeError) throw error;
      throw new KubeError(
        "unavailable",
        `the API server's answer to ${verb} ${path} broke off or is no JSON`,
        { cause: error },
      );
    }
  }

  /** Headers and connections for a while: KubeConfig makes a new pool each time it is asked. */
  async #credentials(): Promise<Credentials> {
    const known = this.#known;
    if (known !== undefined && performance.now() - known.sinceMs < credentialsLifetimeMs) return known;
    const context = new RequestContext(this.#server, HttpMethod.GET);
    await this.#options.kubeConfig.applySecurityAuthentication(context);
    const fresh = {
      headers: context.getHeaders(),
      dispatcher: context.getDispatcher(),
      sinceMs: performance.now(),
    };
    this.#known = fresh;
    // Waits for its open watches, then closes its connections.
    void known?.dispatcher?.close().catch(() => undefined);
    return fresh;
  }

  #timeoutMs(): number {
    return this.#options.timeoutMs ?? 30_000;
  }

  async #open(
    verb: string,
    path: string,
    call: Call,
    signal: AbortSignal,
    isStream: boolean,
  ): Promise<Dispatcher.ResponseData> {
    const url = new URL(`${this.#server}${path}`);
    for (const [key, value] of Object.entries(call.query ?? {})) url.searchParams.set(key, value);
    const startedMs = performance.now();
    let status = 0;
    try {
      const { headers, dispatcher } = await this.#credentials();
      const answer = await request(url, {
        method: call.method,
        headers: {
          ...headers,
          accept: "application/json",
          "user-agent": this.#options.userAgent,
          ...(call.body === undefined
            ? {}
            : {
                "content-type": call.method === "PATCH" ? "application/apply-patch+yaml" : "application/json",
              }),
        },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        ...(dispatcher === undefined ? {} : { dispatcher }),
        signal,
        // A watch is quiet for minutes; its own inactivity rule is the caller's.
        ...(isStream ? { bodyTimeout: 0, headersTimeout: 0 } : {}),
      });
      status = answer.statusCode;
      // A token may have been rotated since: the next call reads it again.
      if (status === 401) this.#known = undefined;
      if (status >= 200 && status < 300) return answer;
      const retryAfter = answer.headers["retry-after"];
      const body = await readText(answer.body).catch(() => "");
      throw kubeErrorOf(status, body, typeof retryAfter === "string" ? retryAfter : undefined);
    } catch (error) {
      if (error instanceof KubeError || (signal.aborted && signal.reason === error))
        throw asKubeError(error, verb, path);
      if (signal.aborted && !(signal.reason instanceof DOMException && signal.reason.name === "TimeoutError"))
        throw error;
      throw asKubeError(error, verb, path);
    } finally {
      this.#options.onAnswer?.(verb, path, status, performance.now() - startedMs);
    }
  }
}

/**
 * Keeps connections to HTTP/1.1. On HTTP/2, undici raises an error that nobody can catch when a server ends an idle connection,
 * which would end the operator with every restart of an API server.
 */
function speakHttp1(kubeConfig: KubeConfig): void {
  const made = kubeConfig.createDispatcherOptions.bind(kubeConfig);
  kubeConfig.createDispatcherOptions = (...given) => {
    const options = made(...given);
    if (options.type !== "agent" && options.type !== "proxy") return options;
    // A setting of undici's connector, which the client's type does not know.
    const connect = { ...options.connect, allowH2: false };
    return { ...options, connect };
  };
}

type Credentials = {
  readonly headers: Readonly<Record<string, string>>;
  readonly dispatcher: Dispatcher | undefined;
  readonly sinceMs: number;
};

type Call = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
};

function asKubeError(error: unknown, verb: string, path: string): unknown {
  if (error instanceof KubeError) return error;
  if (error instanceof DOMException && error.name === "AbortError") return error;
  const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
  return new KubeError("unavailable", `no answer from the API server to ${verb} ${path}${code}`, {
    cause: error,
  });
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBodyBytes)
      throw new KubeError("unavailable", `an answer of more than ${maxBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

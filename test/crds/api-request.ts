// Requests to a test control plane as its administrator, without kubectl: tables of many objects are fast that way.

import { readFileSync } from "node:fs";
import { Agent, request } from "undici";
import type { ControlPlane } from "../cluster/control-plane.ts";

export type ApiAnswer = {
  readonly status: number;
  /** The object, or the Status that refuses it. */
  readonly body: { readonly message?: string; readonly [key: string]: unknown };
  readonly warnings: readonly string[];
};

export type ApiRequest = (
  method: "POST" | "PATCH" | "GET" | "PUT" | "DELETE",
  path: string,
  body?: object,
  contentType?: string,
) => Promise<ApiAnswer>;

/** A function that asks the API server; `close` it at the end. */
export function apiRequests(plane: ControlPlane): {
  readonly ask: ApiRequest;
  readonly close: () => Promise<void>;
} {
  const dispatcher = new Agent({ allowH2: false, connect: { ca: readFileSync(plane.caFile) } });
  const ask: ApiRequest = async (method, path, body, contentType = "application/json") => {
    const answer = await request(`${plane.server}${path}`, {
      dispatcher,
      method,
      headers: { authorization: `Bearer ${plane.adminToken}`, "content-type": contentType },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const { warning = [] } = answer.headers;
    return {
      status: answer.statusCode,
      body: (await answer.body.json()) as ApiAnswer["body"],
      warnings: typeof warning === "string" ? [warning] : warning,
    };
  };
  return { ask, close: () => dispatcher.close() };
}

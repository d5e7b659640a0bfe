// The first request of a process is made under an option of V8; none is left behind.

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { cachedDataVersionTag } from "node:v8";
import { expect, test, vi } from "vitest";
import type * as client from "../../../puller/oci/http-client.ts";

/** A client that has not asked yet. */
async function freshClient(): Promise<typeof client> {
  vi.resetModules();
  return import("../../../puller/oci/http-client.ts");
}

test("after the first answer V8 takes the code again that was compiled before", async () => {
  const { Agent, request } = await freshClient();
  const before = cachedDataVersionTag();
  let during = before;
  const server = createServer((_request, response) => {
    during = cachedDataVersionTag();
    response.end("yes");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const agent = new Agent();
  try {
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    const { body } = await request(agent, url, { method: "GET" });
    expect(await body.text()).toBe("yes");
    expect(during).not.toBe(before);
    expect(cachedDataVersionTag()).toBe(before);
  } finally {
    await agent.close();
    server.close();
  }
});

test("a first request that fails leaves no option of V8 behind", async () => {
  const { Agent, request } = await freshClient();
  const before = cachedDataVersionTag();
  const agent = new Agent();
  // Nobody listens at port 1.
  await expect(request(agent, new URL("http://127.0.0.1:1/"), { method: "GET" })).rejects.toThrow();
  expect(cachedDataVersionTag()).toBe(before);
  await agent.close();
});

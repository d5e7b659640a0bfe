// The fault proxy before a real API server: transparent without faults, and watch streams broken where the plan says.

import { Agent, request } from "undici";
import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startControlPlane, type ControlPlane } from "../cluster/control-plane.ts";
import { describeCluster } from "../cluster/suites.ts";
import { startFaultProxy, type FaultAction, type FaultProxy } from "./fault-proxy.ts";

const watchPath = "/api/v1/namespaces/default/configmaps";

describeCluster("fault proxy before the API server", () => {
  let controlPlane: ControlPlane;
  let proxy: FaultProxy;
  let dispatcher: Agent;
  beforeAll(async () => {
    controlPlane = await startControlPlane({ controllers: false, scheduler: false });
    proxy = await startFaultProxy({
      target: controlPlane.server,
      targetCaFile: controlPlane.caFile,
      tls: true,
      keepAlive: true,
    });
    dispatcher = new Agent({ allowH2: false, connect: { ca: readFileSync(proxy.caFile ?? "") } });
    for (const name of ["a", "b", "c"]) {
      await controlPlane.kubectl(["create", "configmap", name]);
    }
  });
  afterAll(async () => {
    await dispatcher?.destroy();
    await proxy?.stop();
    await controlPlane?.stop();
  });
  afterEach(() => {
    proxy.setFaults([]);
  });

  /** Watches from the start of time to the end of the stream, or to `isEnough`. */
  const watch = async (
    isEnough: (text: string) => boolean = () => false,
  ): Promise<{ readonly text: string; readonly error: string }> => {
    const { body, statusCode } = await request(
      `${proxy.url}${watchPath}?watch=true&resourceVersion=0&timeoutSeconds=20`,
      { dispatcher, headers: { authorization: `Bearer ${controlPlane.adminToken}` } },
    );
    expect(statusCode).toBe(200);
    let text = "";
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        text += chunk.toString("utf8");
        if (isEnough(text)) break;
      }
    } catch (error) {
      return { text, error: (error as Error).message };
    }
    return { text, error: "" };
  };
  const withFault = async (
    action: FaultAction,
    isEnough?: (text: string) => boolean,
  ): Promise<{ readonly text: string; readonly error: string }> => {
    proxy.setFaults([{ when: { path: watchPath }, do: action }]);
    const result = await watch(isEnough);
    expect(proxy.unmet()).toEqual([]);
    return result;
  };
  const lines = (text: string): readonly string[] => text.split("\n").slice(0, -1);

  test("kubectl sees through it what it sees without it", async () => {
    const kubeconfig = controlPlane.kubeconfigFor({
      server: proxy.url,
      token: controlPlane.adminToken,
      ...(proxy.caFile === undefined ? {} : { caFile: proxy.caFile }),
    });
    for (const args of [
      ["get", "configmaps,namespaces,serviceaccounts", "-A", "-o", "yaml"],
      ["api-resources"],
      ["explain", "pod.spec.containers"],
    ]) {
      const direct = await controlPlane.kubectl(args);
      expect((await controlPlane.kubectl(args, { kubeconfig })).stdout).toBe(direct.stdout);
    }
    await controlPlane.kubectl(["create", "configmap", "written", "--from-literal=a=ä"], { kubeconfig });
    const { stdout } = await controlPlane.kubectl([
      "get",
      "configmap",
      "written",
      "-o",
      "jsonpath={.data.a}",
    ]);
    expect(stdout).toBe("ä");
    await controlPlane.kubectl(["delete", "configmap", "written"], { kubeconfig });
  });

  test("events come as they happen, while the watch is open", async () => {
    const watching = watch((text) => text.includes('"name":"later"'));
    await controlPlane.kubectl(["create", "configmap", "later"]);
    expect((await watching).error).toBe("");
    await controlPlane.kubectl(["delete", "configmap", "later"]);
  });

  test("a watch is cut, reset, corrupted, injected into and closed where the plan says", async () => {
    const whole = await watch((text) => lines(text).length >= 3);
    const first = `${lines(whole.text)[0]}\n`;
    for (const reset of [false, true]) {
      const cut = await withFault({ kind: "cut", afterBytes: first.length + 10, reset });
      expect(cut.text).toBe(whole.text.slice(0, first.length + 10));
      expect(cut.error).not.toBe("");
    }
    const injected = await withFault(
      { kind: "inject-line", afterLines: 1, line: '{"type":"ERROR","object":{"code":410}}' },
      (text) => lines(text).length >= 3,
    );
    expect(lines(injected.text).slice(0, 2)).toEqual([
      first.trimEnd(),
      '{"type":"ERROR","object":{"code":410}}',
    ]);
    const closed = await withFault({ kind: "close-after-lines", lines: 2 });
    expect(closed).toEqual({ text: lines(whole.text).slice(0, 2).join("\n") + "\n", error: "" });
    const corrupted = await withFault(
      { kind: "corrupt", atByte: first.length },
      (text) => lines(text).length >= 3,
    );
    expect(() => JSON.parse(lines(corrupted.text)[1] ?? "") as unknown).toThrow();
    expect(lines(corrupted.text)[0]).toBe(first.trimEnd());
  });

  test("410 as a status, 429 with Retry-After, and a request refused on a used connection", async () => {
    const single = new Agent({
      allowH2: false,
      connections: 1,
      connect: { ca: readFileSync(proxy.caFile ?? "") },
    });
    const ask = async (): Promise<number> => {
      const { statusCode, body } = await request(`${proxy.url}${watchPath}`, {
        dispatcher: single,
        headers: { authorization: `Bearer ${controlPlane.adminToken}` },
      });
      await body.dump();
      return statusCode;
    };
    proxy.setFaults([
      { when: { path: watchPath }, do: { kind: "status", status: 410 } },
      { when: { path: watchPath }, do: { kind: "status", status: 429, headers: { "retry-after": "1" } } },
    ]);
    expect([await ask(), await ask(), await ask(), await ask()]).toEqual([410, 429, 200, 200]);
    const [third, fourth] = proxy.requests.slice(-2);
    expect(third?.connection).toBe(fourth?.connection);
    proxy.setFaults([{ when: { path: watchPath }, do: { kind: "refuse", reset: true } }]);
    await expect(ask()).rejects.toThrow();
    expect(proxy.requests.at(-1)?.connection).toBe(fourth?.connection);
    expect(await ask()).toBe(200);
    await single.close();
  });
});

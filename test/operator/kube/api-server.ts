// A real API server with a fault proxy before it, clients of the operator's transport for both ways, and ConfigMaps to watch.

import { KubeConfig } from "@kubernetes/client-node";
import { KubeClient, type KubeClientOptions } from "../../../operator/kube/client.ts";
import type { KubeObject, Resource } from "../../../operator/kube/types.ts";
import { startControlPlane, type ControlPlane } from "../../cluster/control-plane.ts";
import { startFaultProxy, type FaultProxy } from "../../registry/fault-proxy.ts";

export const configMaps: Resource = {
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  namespaced: true,
};
const namespaces: Resource = {
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  namespaced: false,
};

export type ConfigMap = KubeObject & { readonly data?: Readonly<Record<string, string>> };

export type ApiServer = {
  readonly controlPlane: ControlPlane;
  readonly proxy: FaultProxy;
  /** Goes to the API server itself. */
  readonly direct: KubeClient;
  /** A client whose requests pass the proxy. */
  proxied(options?: Partial<KubeClientOptions>): KubeClient;
  /** A namespace that nobody else uses. */
  freshNamespace(): Promise<string>;
  put(namespace: string, name: string, value: string, signal?: AbortSignal): Promise<ConfigMap>;
  remove(namespace: string, name: string): Promise<void>;
  stop(): Promise<void>;
};

const never = new AbortController().signal;

function clientFor(kubeconfig: string, options: Partial<KubeClientOptions> = {}): KubeClient {
  const kubeConfig = new KubeConfig();
  kubeConfig.loadFromFile(kubeconfig);
  return new KubeClient({ kubeConfig, fieldManager: "test", userAgent: "test", ...options });
}

/** Starts etcd, the API server and the proxy. */
export async function startApiServer(): Promise<ApiServer> {
  const controlPlane = await startControlPlane({ controllers: false, scheduler: false });
  const proxy = await startFaultProxy({
    target: controlPlane.server,
    targetCaFile: controlPlane.caFile,
    tls: true,
    keepAlive: true,
  });
  const direct = clientFor(controlPlane.kubeconfig);
  const through = controlPlane.kubeconfigFor({
    server: proxy.url,
    ...(proxy.caFile === undefined ? {} : { caFile: proxy.caFile }),
  });
  let made = 0;
  return {
    controlPlane,
    proxy,
    direct,
    proxied: (options) => clientFor(through, options),
    freshNamespace: async () => {
      made += 1;
      const name = `case-${made}`;
      await direct.create(namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } }, never);
      return name;
    },
    put: async (namespace, name, value, signal = never) =>
      direct.apply<ConfigMap>(
        configMaps,
        { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace, name }, data: { value } } as KubeObject,
        signal,
      ),
    remove: async (namespace, name) => {
      const found = await direct.get(configMaps, { namespace, name }, never);
      if (found !== undefined)
        await direct.delete(configMaps, { namespace, name }, { uid: found.metadata.uid ?? "" }, never);
    },
    stop: async () => {
      await proxy.stop();
      await controlPlane.stop();
    },
  };
}

// The text of a kubeconfig file. Writes nothing.

import { readFileSync } from "node:fs";

/** Kubeconfig text for a server with a bearer token. */
export function kubeconfigText(options: {
  readonly server: string;
  readonly caFile: string;
  readonly token: string;
  readonly namespace?: string;
}): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "ocimodel",
        cluster: {
          server: options.server,
          "certificate-authority-data": readFileSync(options.caFile).toString("base64"),
        },
      },
    ],
    users: [{ name: "user", user: { token: options.token } }],
    contexts: [
      {
        name: "ocimodel",
        context: {
          cluster: "ocimodel",
          user: "user",
          ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
        },
      },
    ],
    "current-context": "ocimodel",
  });
}

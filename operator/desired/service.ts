// The Service in front of a Model's pods. Pure.

import type { Model } from "../api/model.ts";
import { withAppliedHash } from "../kube/needs-apply.ts";
import type { KubeObject } from "../kube/types.ts";
import { metadata, portName, selectorLabels, serviceName, servicePort } from "./names.ts";

/** The complete Service: port 80 to the runtime's port, by name. */
export function modelService(model: Model): KubeObject {
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata(model, serviceName(model), "server"),
    spec: {
      ports: [{ name: portName, port: servicePort, protocol: "TCP", targetPort: portName }],
      selector: selectorLabels(model),
      type: "ClusterIP",
    },
  };
  return withAppliedHash(service as KubeObject);
}

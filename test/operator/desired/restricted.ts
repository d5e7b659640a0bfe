// An independent reading of Pod Security "restricted" for pod specs, and the project's own stricter rules. Knows no product code.
// https://kubernetes.io/docs/concepts/security/pod-security-standards/

/** Any JSON object; missing fields are undefined. */
export type Fields = { readonly [key: string]: unknown };

const allowedVolumes = new Set([
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "image",
  "persistentVolumeClaim",
  "projected",
  "secret",
]);

function at(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const key of path) current = (current as Fields | undefined)?.[key];
  return current;
}

function list(value: unknown): readonly Fields[] {
  return (value ?? []) as readonly Fields[];
}

/** What of a pod spec "restricted" refuses, one line each; empty when it passes. */
export function restrictedViolations(podSpec: Fields): readonly string[] {
  const violations: string[] = [];
  for (const field of ["hostNetwork", "hostPID", "hostIPC"]) {
    if (podSpec[field] === true) violations.push(`${field} is true`);
  }
  for (const volume of list(podSpec["volumes"])) {
    const kinds = Object.keys(volume).filter((key) => key !== "name");
    for (const kind of kinds.filter((each) => !allowedVolumes.has(each))) {
      violations.push(`volume ${String(volume["name"])} is of type ${kind}`);
    }
  }
  const pod = podSpec["securityContext"];
  for (const container of [...list(podSpec["initContainers"]), ...list(podSpec["containers"])]) {
    const name = String(container["name"]);
    const own = container["securityContext"];
    const effective = (...path: readonly string[]): unknown => at(own, ...path) ?? at(pod, ...path);
    if (effective("runAsNonRoot") !== true) violations.push(`${name}: runAsNonRoot is not true`);
    if (effective("runAsUser") === 0) violations.push(`${name}: runAsUser is 0`);
    if (!["RuntimeDefault", "Localhost"].includes(String(effective("seccompProfile", "type")))) {
      violations.push(`${name}: seccompProfile is not RuntimeDefault`);
    }
    if (at(own, "privileged") === true) violations.push(`${name}: privileged`);
    if (at(own, "allowPrivilegeEscalation") !== false) {
      violations.push(`${name}: allowPrivilegeEscalation is not false`);
    }
    const dropped = (at(own, "capabilities", "drop") ?? []) as readonly string[];
    if (!dropped.includes("ALL")) violations.push(`${name}: capabilities are not all dropped`);
    const added = (at(own, "capabilities", "add") ?? []) as readonly string[];
    if (added.some((capability) => capability !== "NET_BIND_SERVICE")) {
      violations.push(`${name}: adds capabilities`);
    }
    for (const port of list(container["ports"])) {
      if ((port["hostPort"] ?? 0) !== 0) violations.push(`${name}: hostPort`);
    }
  }
  return violations;
}

/** The project's own rules, beyond "restricted": one line for each that is broken by a container of ours. */
export function ownViolations(podSpec: Fields, containers: readonly string[]): readonly string[] {
  const violations: string[] = [];
  if (podSpec["automountServiceAccountToken"] !== false) violations.push("a token is mounted");
  if (podSpec["enableServiceLinks"] !== false) violations.push("service links are in the environment");
  if (at(podSpec, "securityContext", "fsGroupChangePolicy") !== "OnRootMismatch") {
    violations.push("ownership of the whole volume is changed at each start");
  }
  const secretVolumes = new Set(
    list(podSpec["volumes"]).flatMap((volume) => ("secret" in volume ? [volume["name"]] : [])),
  );
  for (const container of [...list(podSpec["initContainers"]), ...list(podSpec["containers"])]) {
    const name = String(container["name"]);
    if (!containers.includes(name)) continue;
    if (at(container, "securityContext", "readOnlyRootFilesystem") !== true) {
      violations.push(`${name}: the root file system can be written to`);
    }
    const mounts = list(container["volumeMounts"]);
    if (name === "runtime") {
      if (mounts.some((mount) => secretVolumes.has(mount["name"]))) {
        violations.push("the runtime sees a pull secret");
      }
      const model = mounts.find((mount) => mount["name"] === "model");
      const isImage = list(podSpec["volumes"]).some(
        (volume) => volume["name"] === "model" && volume["image"] !== undefined,
      );
      const subPath = String(model?.["subPath"]);
      if (model?.["readOnly"] !== true || !(isImage ? subPath === "models" : subPath.startsWith("models/"))) {
        violations.push("the runtime does not see the published model read-only");
      }
    }
    if (list(container["env"]).some((variable) => at(variable, "valueFrom", "secretKeyRef") !== undefined)) {
      violations.push(`${name}: a secret is in the environment`);
    }
  }
  return violations;
}

/** The pod spec inside a Pod or a Deployment; undefined for other kinds. */
export function podSpecOf(object: object): Fields | undefined {
  const { kind, spec } = object as { kind?: string; spec?: Fields };
  if (kind === "Pod") return spec;
  return kind === "Deployment" ? (at(spec, "template", "spec") as Fields) : undefined;
}

// What the API server makes of a pod's resources before the scheduler counts them: limits become requests that are not stated. Pure.
// Rules: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/

import type { PodSpecRequests } from "../hardware/pod-requests.ts";

type Container = NonNullable<PodSpecRequests["containers"]>[number] & {
  readonly resources?: { readonly limits?: Readonly<Record<string, string | number>> };
};

/** A limit without a request is the request too. */
function defaulted<T extends Container>(container: T): T {
  const { limits = {}, requests = {} } = container.resources ?? {};
  return { ...container, resources: { ...container.resources, requests: { ...limits, ...requests } } };
}

/** What a template patch left of a list of containers: the API server refuses the pod of what is none. */
function listOf(items: readonly (Container | null)[] | undefined): readonly Container[] {
  return Array.isArray(items)
    ? items.filter((item): item is Container => typeof item === "object" && item !== null)
    : [];
}

/**
 * The pod's spec with the requests that the API server fills in. A limit of the pod as a whole is its request where neither the pod nor a
 * container, the puller too, states one; of huge pages always, since nothing overcommits them.
 */
export function withDefaultRequests(spec: PodSpecRequests): PodSpecRequests {
  const containers = listOf(spec.containers).map(defaulted);
  const initContainers = listOf(spec.initContainers).map(defaulted);
  const isLeftToContainers = (name: string): boolean =>
    !name.startsWith("hugepages-") &&
    [...containers, ...initContainers].some(({ resources }) => resources?.requests?.[name] !== undefined);
  const { limits, requests }: NonNullable<Container["resources"]> = spec.resources ?? {};
  const ofLimits = Object.entries(limits ?? {}).filter(([name]) => !isLeftToContainers(name));
  return {
    ...spec,
    containers,
    initContainers,
    resources: { requests: { ...Object.fromEntries(ofLimits), ...requests } },
  };
}

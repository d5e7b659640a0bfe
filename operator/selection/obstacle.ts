// What keeps a pod off a node: in words for one node, in words to count nodes by, and as figures to compare nodes by. Pure.

/** How an obstacle is got rid of, the easiest first. */
export type ObstacleKind =
  /** Fits, but other pods hold what it needs. */
  | "taken"
  /** The node does not admit it, or the user's selectors exclude the node: nothing of its hardware. */
  | "excluded"
  /** Of the memory that the model is loaded to: of a device, or RAM. */
  | "memory"
  | "other"
  /** The node does not say what it has. */
  | "unknown"
  | "no-accelerator";

export type Obstacle = {
  readonly kind: ObstacleKind;
  /** After a number of nodes, and the same for all whose obstacle is of this sort: "with too little GPU memory". */
  readonly reason: string;
  /** Of one node, with numbers: "5.8 GiB of GPU memory short". */
  readonly what: string;
  /** Of the memory that the model is loaded to. */
  readonly hasBytes?: number;
  /** Memory of each device, RAM or disk. */
  readonly missingBytes?: number;
  readonly missingDevices?: number;
};

const places: Readonly<Record<ObstacleKind, number>> = {
  taken: 0,
  excluded: 1,
  memory: 2,
  other: 3,
  unknown: 4,
  "no-accelerator": 5,
};

function count(lacks: readonly Obstacle[], isCounted: (place: number) => boolean): number {
  return lacks.reduce((sum, { kind }) => sum + Number(isCounted(places[kind])), 0);
}

function sum(lacks: readonly Obstacle[], field: "missingBytes" | "missingDevices"): number {
  return lacks.reduce((total, each) => total + (each[field] ?? 0), 0);
}

/**
 * Orders what two nodes lack, the nearer node first: fewer lacks of hardware, which nobody adds by a command; then fewer others; then
 * the easier ones; then smaller amounts.
 */
export function compareLacks(one: readonly Obstacle[], other: readonly Obstacle[]): number {
  const difference = (of: (lacks: readonly Obstacle[]) => number): number => of(one) - of(other);
  const hardest = (lacks: readonly Obstacle[]): number =>
    Math.max(-1, ...lacks.map(({ kind }) => places[kind]));
  return (
    difference((lacks) => count(lacks, (place) => place >= places.memory)) ||
    difference((lacks) => count(lacks, (place) => place < places.memory)) ||
    difference(hardest) ||
    difference((lacks) => sum(lacks, "missingBytes")) ||
    difference((lacks) => sum(lacks, "missingDevices"))
  );
}

const shownReasons = 4;
const shownTogether = 3;

/** What a node is counted under. A node without the device at all lacks nothing else that matters. */
function reasonsOf(lacks: readonly Obstacle[]): string {
  const none = lacks.find(({ kind }) => kind === "no-accelerator");
  const reasons = [...new Set((none === undefined ? lacks : [none]).map(({ reason }) => reason))];
  return reasons.length > shownTogether
    ? `${reasons.slice(0, shownTogether).join(" and ")} and more`
    : reasons.join(" and ");
}

/** Nodes for each reason, the most first: "3 without such a GPU, 2 with too little GPU memory". As long as five reasons at most. */
export function countReasons(
  refused: readonly { readonly lacks: readonly Obstacle[]; readonly count: number }[],
): string {
  const counts = new Map<string, number>();
  for (const each of refused) {
    const reason = reasonsOf(each.lacks);
    counts.set(reason, (counts.get(reason) ?? 0) + each.count);
  }
  const ordered = [...counts].sort(([one, most], [other, more]) => more - most || (one < other ? -1 : 1));
  // "Other reasons" are several: a single one is named.
  const shown = ordered.length === shownReasons + 1 ? ordered.length : shownReasons;
  const others = ordered.slice(shown).reduce((total, [, nodes]) => total + nodes, 0);
  return [
    ...ordered.slice(0, shown).map(([reason, nodes]) => `${nodes} ${reason}`),
    ...(others === 0 ? [] : [`${others} for other reasons`]),
  ].join(", ");
}

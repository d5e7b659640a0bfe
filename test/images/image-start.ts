// How an image starts its program, read from the Dockerfile: whoever starts the same program elsewhere does it the same way.

/** How an image starts a program, as its Dockerfile says. */
export type ImageStart = {
  readonly entrypoint: readonly string[];
  readonly env: Readonly<Record<string, string>>;
};

/** Entrypoint and environment of a stage, the stages that it is made from included. Fails when there is no entrypoint. */
export function imageStart(dockerfile: string, stage: string): ImageStart {
  const stages = new Map<string, { readonly from: string; readonly lines: readonly string[] }>();
  for (const part of dockerfile.split(/^(?=FROM )/m)) {
    const [, from = "", name = ""] = /^FROM (\S+) AS (\S+)/.exec(part) ?? [];
    if (name !== "") stages.set(name, { from, lines: part.split("\n") });
  }
  let entrypoint: readonly string[] | undefined;
  let env: Readonly<Record<string, string>> = {};
  for (let found = stages.get(stage); found !== undefined; found = stages.get(found.from)) {
    for (const line of found.lines) {
      const [, name, value] = /^ENV ([A-Z_]+)=(\S+)$/.exec(line) ?? [];
      if (name !== undefined && value !== undefined) env = { [name]: value, ...env };
      const [, list] = /^ENTRYPOINT (\[.*\])$/.exec(line) ?? [];
      if (list !== undefined) entrypoint ??= JSON.parse(list) as readonly string[];
    }
  }
  if (entrypoint === undefined) throw new Error(`the Dockerfile's stage ${stage} has no ENTRYPOINT`);
  return { entrypoint, env };
}

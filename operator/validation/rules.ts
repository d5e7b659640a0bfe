// The CEL rules of a schema (x-kubernetes-validations), evaluated as the API server does when an object is created. Pure.
// https://kubernetes.io/docs/reference/using-api/cel/

import { Environment, type ASTNode } from "@marcbachmann/cel-js";
import { isMap } from "../api/json.ts";
import { parseQuantity } from "../kube/quantity.ts";
import { fromRe2 } from "./regular-expression.ts";
import { fieldSchema, walk, type Path, type StructuralSchema } from "./structural-schema.ts";

export type BrokenRule = { readonly path: Path; readonly message: string };

class Quantity {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

function quantityOf(text: string): Quantity {
  const value = parseQuantity(text);
  if (value === undefined) throw new Error(`${JSON.stringify(text)} is no quantity`);
  return new Quantity(value);
}

/** The library's own `matches` takes JavaScript's expressions and cannot be replaced, so calls are given another name. */
const matches = "matchesRe2";

const environment = new Environment({ homogeneousAggregateLiterals: false })
  .registerVariable("self", "dyn")
  .registerType("Quantity", { ctor: Quantity, fields: {} })
  .registerFunction("isQuantity(string): bool", (text: string) => parseQuantity(text) !== undefined)
  .registerFunction("quantity(string): Quantity", quantityOf)
  .registerFunction("Quantity.compareTo(Quantity): int", (one: Quantity, other: Quantity) =>
    BigInt(Math.sign(one.value - other.value)),
  )
  .registerFunction(`string.${matches}(string): bool`, (text: string, pattern: string) =>
    fromRe2(pattern).test(text),
  );
/** The same for rules on a change: known, so that they can be told from rules with a name that nobody knows. */
const changes = environment.clone().registerVariable("oldSelf", "dyn");

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}

function* nodesOf(value: unknown): Generator<ASTNode> {
  if (Array.isArray(value)) for (const each of value) yield* nodesOf(each);
  else if (isNode(value)) {
    yield value;
    yield* nodesOf(value.args);
  }
}

/** The rule with every call of `matches` renamed. */
function withOwnMatches(rule: string, nodes: readonly ASTNode[]): string {
  const receiverEnds = nodes
    .flatMap(({ op, args }) => (op === "rcall" && args[0] === "matches" ? [args[1].range.end] : []))
    .sort((one, other) => other - one);
  // From the last to the first, so that ends stay where they are.
  return receiverEnds.reduce((text, end) => {
    const [call] = /^[\s)]*\.\s*matches/.exec(text.slice(end)) ?? [];
    if (call === undefined)
      throw new Error(`rule ${JSON.stringify(rule)}: no call of matches is where it should be`);
    return text.slice(0, end) + call.replace("matches", matches) + text.slice(end + call.length);
  }, rule);
}

export type CompiledRule = {
  /** Rules on a change have nothing to say of an object that is new. */
  readonly isTransition: boolean;
  readonly evaluate: (self: unknown) => unknown;
};

const compiled = new Map<string, CompiledRule>();

/** A rule that can be evaluated; throws for one that cannot, such as one with a function that is not known here. */
export function compileRule(rule: string): CompiledRule {
  const known = compiled.get(rule);
  if (known !== undefined) return known;
  const nodes = [...nodesOf(changes.parse(rule).ast)];
  const isTransition = nodes.some(({ op, args }) => op === "id" && args === "oldSelf");
  const parsed = (isTransition ? changes : environment).parse(withOwnMatches(rule, nodes));
  const { valid, error } = parsed.check();
  if (!valid) throw new Error(`rule ${JSON.stringify(rule)} cannot be evaluated: ${error?.message ?? ""}`);
  const result: CompiledRule = { isTransition, evaluate: (self) => parsed({ self }) as unknown };
  compiled.set(rule, result);
  return result;
}

/** What CEL sees of a value: fields that the schema knows, and integers as such. */
function celValue(value: unknown, schema: StructuralSchema | undefined): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => celValue(item, schema?.items));
  if (isMap(value))
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => [
        name,
        celValue(field, schema === undefined ? undefined : fieldSchema(schema, name)),
      ]),
    );
  return Number.isInteger(value) && schema?.type === "integer" ? BigInt(value as number) : value;
}

const knownKeys: ReadonlySet<string> = new Set(["rule", "message"]);

/** The rules of one schema, without those of its fields. */
export function rulesOf(schema: StructuralSchema): readonly (CompiledRule & { readonly message: string })[] {
  return (schema["x-kubernetes-validations"] ?? []).map((each) => {
    const unknown = Object.keys(each).find((key) => !knownKeys.has(key));
    if (unknown !== undefined)
      throw new Error(`${unknown} of rule ${JSON.stringify(each.rule)} is not known`);
    return { ...compileRule(each.rule), message: each.message ?? `failed rule: ${each.rule}` };
  });
}

/**
 * Rules that a new object breaks. `isBroken` tells whether the schema refuses something at or below a path: there, a rule that fails to
 * evaluate says nothing new; elsewhere, it refuses the object as the API server does.
 */
export function brokenRules(
  schema: StructuralSchema,
  object: unknown,
  isBroken: (path: Path) => boolean,
): readonly BrokenRule[] {
  return [...walk(schema, object)].flatMap(({ schema: part, value, path }) =>
    rulesOf(part)
      .filter(({ isTransition }) => !isTransition)
      .flatMap(({ evaluate, message }): readonly BrokenRule[] => {
        try {
          return evaluate(celValue(value, part)) === true ? [] : [{ path, message }];
        } catch (error) {
          if (isBroken(path)) return [];
          const why = error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : "unknown failure";
          return [{ path, message: `${message} (its rule could not be evaluated: ${why})` }];
        }
      }),
  );
}

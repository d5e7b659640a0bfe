// `make demo`: runs the demo, leaves its cluster up, and says how to look around and how to stop it.

import { ensureKubernetesTools, exportPathLine } from "../cluster/binary.ts";
import { nodeSuitesUnavailable } from "../cluster/packages.ts";
import { demoNamespace, runDemo } from "./demo.ts";

const usage = `usage: node test/demo/main.ts [--remove]

  --remove  take the cluster down at the end instead of leaving it up
`;

const args = process.argv.slice(2);
if (args.some((argument) => argument !== "--remove")) {
  process.stderr.write(usage);
  process.exit(64);
}
const obstacle = nodeSuitesUnavailable();
if (obstacle !== undefined) {
  console.error(`the demo starts a cluster on this machine, which is not possible here: ${obstacle}.
Point KUBECONFIG at a cluster of yours, such as kind, and follow docs/install.md instead.`);
  process.exit(1);
}
const startedMs = performance.now();
const isRemoved = args.includes("--remove");
const { cluster, registry, answer, verdicts, firstTokenMs } = await runDemo({
  say: (line) => {
    console.log(line);
  },
  detached: !isRemoved,
});
console.log("\nWhy this variant:");
for (const { name, verdict, message } of verdicts) {
  console.log(`  ${name.padEnd(10)} ${verdict.padEnd(16)} ${message}`);
}
console.log(`\nllama.cpp answers: ${answer.trim()}`);
console.log(`from kubectl apply to the answer: ${(firstTokenMs / 1000).toFixed(1)} s`);
console.log(`the whole demo: ${Math.round((performance.now() - startedMs) / 1000)} s`);
if (isRemoved) {
  await registry.stop();
  await cluster.stop();
} else {
  console.log(`
The cluster is still up. Look around:
  ${exportPathLine(await ensureKubernetesTools())}
  export KUBECONFIG=${cluster.kubeconfig}
  kubectl get models -A -o wide
  kubectl describe model tiny -n ${demoNamespace}
  kubectl port-forward -n ${demoNamespace} service/tiny 8080:80 &
  curl --retry 5 --retry-connrefused http://127.0.0.1:8080/v1/models
Take it down:
  make cluster-down`);
}
process.exit(0);
